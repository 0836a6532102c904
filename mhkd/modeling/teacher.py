"""The high-magnification teacher: frozen, or frozen but for its box branch."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.func import functional_call

from mhkd.modeling.box_stages import Stage, poolable, predict, run_stages, stage_losses
from mhkd.modeling.box_weights import weigh_boxes
from mhkd.modeling.detectors_dense import Maps, predict_maps
from mhkd.modeling.ignored import leave_ignored_out
from mhkd.modeling.precision import keep_last_layers_in_float32
from preprocess.base.errors import UserError


class Teacher(nn.Module):
    """A detector whose features and outputs a student imitates, and of which at most the parts in ``can_learn`` learn.

    It is never in training mode: ``train()`` is overridden, because a trainer's ``model.train()`` reaches every
    sub-module.
    """

    can_learn: tuple[str, ...] = ()

    def __init__(self, detector: Any, trainable: tuple[str, ...] = ()) -> None:
        """
        Args:
            trainable: parts that learn. The feature extractor and the proposal network never do.
        """
        super().__init__()
        keep_last_layers_in_float32(detector)
        self.detector = detector
        self.set_trainable(trainable)
        super().train(False)

    def set_trainable(self, parts: tuple[str, ...]) -> None:
        """Let ``parts`` learn from now on, and nothing else.

        Raises:
            UserError: a part of this teacher that cannot learn.
        """
        if unknown := [part for part in parts if part not in self.can_learn]:
            choices = " or ".join(["[]", *(f"[{part}]" for part in self.can_learn)])
            raise UserError(
                f"MODEL.MHKD.TEACHER.TRAINABLE names {', '.join(unknown)}, and the teacher is a "
                f"{type(self.detector).__name__}",
                remedy=f"use {choices}: the teacher's feature extractor always stays frozen",
            )
        self.trainable = bool(parts)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    @torch.no_grad()
    def pyramid(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, dict[str, Tensor]]:
        """The pairs' ``teacher_image`` as a batch, and f_H, its pyramid."""
        images = self.detector.preprocess_image([{"image": x["teacher_image"]} for x in batched_inputs])
        return images, self.detector.backbone(images.tensor)


class DenseTeacher(Teacher):
    """A teacher with a dense head: RetinaNet or FCOS."""

    @torch.no_grad()
    def predict(self, pyramid: dict[str, Tensor]) -> Maps:
        """O_H: the head's float32 maps on ``pyramid``, f_H by level (N, C, H, W), without a gradient."""
        return self.apply_head(pyramid)

    def apply_head(self, pyramid: dict[str, Tensor]) -> Maps:
        """The maps of :meth:`predict`, with a gradient towards ``pyramid`` and none towards the teacher."""
        return predict_maps(self.detector, pyramid)


class RoITeacher(Teacher):
    """A teacher with RoI heads, the box branch of which may learn (mutual learning)."""

    can_learn = ("roi_heads",)

    def __init__(self, detector: Any, trainable: tuple[str, ...] = ()) -> None:
        super().__init__(detector, trainable)
        leave_ignored_out(detector)
        weigh_boxes(detector)

    def set_trainable(self, parts: tuple[str, ...]) -> None:
        super().set_trainable(parts)
        for branch in (self.roi_heads.box_head, self.roi_heads.box_predictor):
            branch.requires_grad_(self.trainable)

    @property
    def roi_heads(self) -> StandardROIHeads:
        return self.detector.roi_heads

    @torch.no_grad()
    def propose(self, images: ImageList, pyramid: dict[str, Tensor]) -> list[Instances]:
        """Proposal_H: the teacher's own proposals, in teacher pixels."""
        return self.detector.proposal_generator(images, pyramid, None)[0]

    @torch.no_grad()
    def pool(self, pyramid: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
        """f_HL: RoIAlign of f_H on ``boxes`` (teacher pixels, one entry an image) -> (R, C, 7, 7)."""
        return self.roi_heads.box_pooler(poolable(self.roi_heads, pyramid), boxes)

    def predict(self, pooled: Tensor, stage: int = 0) -> tuple[Tensor, Tensor]:
        """O_H: class logits (R, K + 1) and box deltas (R, 4 or 4 K) of ``stage``; a gradient only where it learns."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            return predict(self.roi_heads, pooled, stage)

    def apply_head(self, pooled: Tensor, stage: int = 0) -> tuple[Tensor, Tensor]:
        """The outputs of :meth:`predict`, with a gradient towards ``pooled`` and none towards the teacher."""
        if not self.trainable:  # nothing to hold back: no parameter of it wants a gradient
            return predict(self.roi_heads, pooled, stage)
        branch = _BoxBranch(self.roi_heads)
        fixed = {name: parameter.detach() for name, parameter in branch.named_parameters()}
        return functional_call(branch, fixed, (pooled, stage))

    def detect(
        self, images: ImageList, pyramid: dict[str, Tensor], targets: list[Instances] | None = None
    ) -> list[Stage]:
        """The teacher's own pass f_HH -> O_H over its proposals, those sampled for training where it has targets."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            return run_stages(self.roi_heads, pyramid, self.propose(images, pyramid), targets)

    def losses(self, stages: list[Stage]) -> dict[str, Tensor]:
        """Its own detection losses, called ``loss_teacher_*``."""
        losses = stage_losses(self.roi_heads, stages)
        return {name.replace("loss_", "loss_teacher_", 1): loss for name, loss in losses.items()}


class _BoxBranch(nn.Module):
    """The call that ``functional_call`` makes with other parameters."""

    def __init__(self, heads: StandardROIHeads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, pooled: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        return predict(self.heads, pooled, stage)

"""MHKD: teacher and student side by side, one dict of losses out."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mhkd.losses.pyramid import PyramidLoss
from mhkd.modeling.detectors import build_student
from mhkd.modeling.feature_pictures import feature_picture
from mhkd.modeling.pairing import DistillationBatch, Outputs, build_outputs, build_pyramid_loss, level_shift
from mhkd.modeling.teacher import Teacher
from preprocess.base.errors import UserError

LOSSES = ("feature", "local", "semantic_cls", "semantic_box", "semantic_centerness")


@META_ARCH_REGISTRY.register()
class MHKD(nn.Module):
    """Distils a teacher into a student that sees low magnification.

    Which losses run is decided by their weights alone, so every phase of the method is a configuration of
    this one class. The student's own detection losses are always part of the dict. What the detectors have in common
    is here; what is made of their outputs depends on their kind, see mhkd/modeling/pairing.py.

    Notation of docs/method.md: f_H, f_L and f_L' are pyramids; O_L and O_H are the outputs of the two heads.
    """

    @configurable
    def __init__(
        self,
        *,
        student: Any,
        teacher: Teacher,
        weights: dict[str, float],
        outputs: Outputs,
        pyramid_loss: PyramidLoss | None = None,
        warmup_iters: int = 0,
        vis_period: int = 0,
    ) -> None:
        """
        Args:
            student: a detector with an up-sampled input (mhkd/modeling/detectors.py).
            weights: of the losses in LOSSES; 0 switches one off.
            outputs: what is distilled of the detectors' outputs.
            pyramid_loss: the feature loss; needed where "feature" has a weight, and only there.
            warmup_iters: the distillation weights ramp up linearly over so many iterations.
            vis_period: every so many iterations the features go to TensorBoard as pictures; 0 for never.
        """
        super().__init__()
        check_weights(weights, has_pyramid_loss=pyramid_loss is not None)
        if teacher.trainable and not weights["semantic_cls"]:
            raise UserError(
                "MODEL.MHKD.TEACHER.TRAINABLE needs MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CLS",
                remedy="mutual learning exchanges class scores: give that a weight, or set TRAINABLE to []",
            )
        self.student = student
        self.teacher = teacher
        self.weights = weights
        self.outputs = outputs
        self.pyramid_loss = pyramid_loss
        self.warmup_iters = warmup_iters
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg: CfgNode, teacher: Teacher, scale_ratio: int) -> dict[str, Any]:
        """``scale_ratio``: teacher pixels per pixel of the up-sampled student image, a power of two."""
        level_shift(scale_ratio)
        settings = cfg.MODEL.MHKD
        student: Any = build_student(cfg)
        weights = {name.lower(): weight for name, weight in settings.LOSS_WEIGHTS.items()}
        shapes = student.backbone.output_shape(), teacher.detector.backbone.output_shape()
        return {
            "student": student,
            "teacher": teacher,
            "weights": weights,
            "outputs": build_outputs(settings, student, teacher, weights, scale_ratio),
            "pyramid_loss": build_pyramid_loss(settings, *shapes, scale_ratio) if weights["feature"] else None,
            "warmup_iters": cfg.SOLVER.WARMUP_ITERS,
            "vis_period": cfg.VIS_PERIOD,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: per pair ``image`` and ``instances`` (student pixels) and, in training,
                ``teacher_image`` (teacher pixels); images uint8 (3, h, w).

        Returns:
            In training a dict of scalar losses, distillation losses as ``loss_kd_*`` and those of a teacher that
            learns as ``loss_teacher_*``; otherwise the student's detections.
        """
        if not self.training:
            return self.student(batched_inputs)
        with self.student.autocast():
            return self._training_losses(batched_inputs)

    def _training_losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        student = self.student
        images = student.preprocess_image(batched_inputs)
        ground_truth = student.upsampled_ground_truth(batched_inputs)
        raw = student.backbone(images.tensor)
        features = student.bfa(raw)
        losses, outputs = self.outputs.student_pass(student, images, features, ground_truth)
        if not any(self.weights.values()):
            return losses

        batch = DistillationBatch(images, ground_truth, features, *self.teacher.pyramid(batched_inputs))
        terms, teacher_losses = self.outputs.compare(student, self.teacher, outputs, batch)
        if self.pyramid_loss is not None:
            boxes = [x.gt_boxes.tensor for x in ground_truth]
            with torch.autocast(images.tensor.device.type, enabled=False):
                terms["feature"] = self.pyramid_loss(features, batch.teacher_pyramid, batch.size_hw, boxes)
        ramp = self.distillation_ramp()
        distilled = {f"loss_kd_{name}": term * (ramp * self.weights.get(name, 1.0)) for name, term in terms.items()}
        self._picture(raw, features, batch.teacher_pyramid)
        return {**losses, **teacher_losses, **distilled}

    def _picture(self, raw: dict[str, Tensor], adapted: dict[str, Tensor], teacher: dict[str, Tensor]) -> None:
        """f_H, f_L and (behind a BFA) f_L' side by side, one picture for each distilled level."""
        storage = get_event_storage()
        if self.pyramid_loss is None or not self.vis_period or storage.iter % self.vis_period:
            return
        for level, teacher_level in self.pyramid_loss.pairs.items():
            maps = {"f_H": teacher[teacher_level], "f_L": raw[level]}
            if level in self.student.bfa:
                maps["f_L'"] = adapted[level]
            storage.put_image(f"features/{level}: {', '.join(maps)}", feature_picture(maps))

    def distillation_ramp(self) -> float:
        """The share of the distillation weights in force, from the trainer's iteration: resume-proof."""
        return min(1.0, (get_event_storage().iter + 1) / (self.warmup_iters + 1))


def check_weights(weights: dict[str, float], *, has_pyramid_loss: bool) -> None:
    """A weight that no loss reads, a loss without a weight, and a negative weight are errors."""
    if set(weights) != set(LOSSES):
        raise UserError(
            f"the loss weights are of {', '.join(sorted(weights))}",
            remedy=f"give one for each of {', '.join(LOSSES)}, and 0 to switch it off",
        )
    if negative := [name for name, weight in weights.items() if weight < 0]:
        raise UserError(f"the loss weight of {', '.join(negative)} is negative", remedy="use 0 to switch a loss off")
    if has_pyramid_loss != bool(weights["feature"]):
        raise UserError("a feature loss and its weight do not go together", remedy="give both or none")

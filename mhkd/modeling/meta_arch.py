"""MHKD: teacher and student side by side, one dict of losses out."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mhkd.config import Phase, PhaseSchedule
from mhkd.losses.pyramid import PyramidLoss
from mhkd.modeling.detectors import build_student
from mhkd.modeling.feature_pictures import feature_picture
from mhkd.modeling.pairing import (
    DistillationBatch,
    Outputs,
    build_outputs,
    build_pyramid_loss,
    build_teacher,
    level_shift,
)
from mhkd.modeling.teacher import Teacher
from preprocess.base.errors import UserError

LOSSES = ("feature", "local", "semantic_cls", "semantic_box", "semantic_centerness")


@META_ARCH_REGISTRY.register()
class MHKD(nn.Module):
    """Distils a teacher into a student that sees low magnification.

    Which losses run is decided by their weights alone, which follow from the iteration. The student's own detection
    losses are always part of the dict. What the detectors have in common is here; what is made of their outputs depends
    on their kind, see mhkd/modeling/pairing.py.

    Notation of docs/method.md: f_H, f_L and f_L' are pyramids; O_L and O_H are the outputs of the two heads.
    """

    @configurable
    def __init__(
        self,
        *,
        student: Any,
        teacher: Teacher,
        schedule: PhaseSchedule,
        outputs: Outputs,
        pyramid_loss: PyramidLoss | None = None,
        vis_period: int = 0,
    ) -> None:
        """
        Args:
            student: a detector with an up-sampled input (mhkd/modeling/detectors.py).
            schedule: the phases of the run, with the weight of every loss in LOSSES at every iteration.
            outputs: what is distilled of the detectors' outputs.
            pyramid_loss: the feature loss; needed where "feature" ever has a weight, and only there.
            vis_period: every so many iterations the features go to TensorBoard as pictures; 0 for never.
        """
        super().__init__()
        for phase in schedule.phases:
            check_weights(phase)
        if (pyramid_loss is not None) != bool(schedule.weights["feature"]):
            raise UserError("a feature loss and its weight do not go together", remedy="give both or none")
        self.student = student
        self.teacher = teacher
        self.schedule = schedule
        self.outputs = outputs
        self.pyramid_loss = pyramid_loss
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg: CfgNode, *, teacher: Teacher | None = None) -> dict[str, Any]:
        """
        Args:
            cfg: MODEL.MHKD.TEACHER names the teacher, MODEL.MHKD.SCALE_FACTOR by how much its images are larger.
            teacher: in place of the one that ``cfg`` names.
        """
        settings, schedule = cfg.MODEL.MHKD, PhaseSchedule.from_config(cfg)
        scale_ratio = scale_ratio_of(settings)
        level_shift(scale_ratio)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.MHKD.BFA.ENABLED = schedule.has_bfa
        teacher = teacher or build_teacher(cfg, schedule.teacher_parts)
        student: Any = build_student(cfg)
        shapes = student.backbone.output_shape(), teacher.detector.backbone.output_shape()
        weights = schedule.weights
        return {
            "student": student,
            "teacher": teacher,
            "schedule": schedule,
            "outputs": build_outputs(settings, student, teacher, weights, scale_ratio),
            "pyramid_loss": build_pyramid_loss(settings, *shapes, scale_ratio) if weights["feature"] else None,
            "vis_period": cfg.VIS_PERIOD,
        }

    def set_phase(self, phase: Phase) -> None:
        """Make trainable what learns in ``phase`` beside the student, which the trainer sees to, and nothing else."""
        self.teacher.set_trainable(phase.teacher_parts)
        self.outputs.weights = phase.weights
        self.outputs.adapter.requires_grad_(self.outputs.reads_adapter)
        if self.pyramid_loss is not None:
            self.pyramid_loss.requires_grad_(bool(phase.weights["feature"]))

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
        features = student.adapt(raw)
        weights = self.schedule.weights_at(get_event_storage().iter)
        self.outputs.weights = weights
        losses, outputs = self.outputs.student_pass(student, images, features, ground_truth)
        if not any(weights.values()):
            return losses

        batch = DistillationBatch(images, ground_truth, features, *self.teacher.pyramid(batched_inputs))
        terms, teacher_losses = self.outputs.compare(student, self.teacher, outputs, batch)
        if self.pyramid_loss is not None and weights["feature"]:
            boxes = [x.gt_boxes.tensor for x in ground_truth]
            with torch.autocast(images.tensor.device.type, enabled=False):
                terms["feature"] = self.pyramid_loss(features, batch.teacher_pyramid, batch.size_hw, boxes)
        distilled = {f"loss_kd_{name}": term * weights.get(name, 1.0) for name, term in terms.items()}
        self._picture(raw, features, batch.teacher_pyramid)
        return {**losses, **teacher_losses, **distilled}

    def _picture(self, raw: dict[str, Tensor], adapted: dict[str, Tensor], teacher: dict[str, Tensor]) -> None:
        """f_H, f_L and (behind a BFA) f_L' side by side, one picture for each distilled level."""
        storage = get_event_storage()
        if self.pyramid_loss is None or not self.vis_period or storage.iter % self.vis_period:
            return
        for level, teacher_level in self.pyramid_loss.pairs.items():
            maps = {"f_H": teacher[teacher_level], "f_L": raw[level]}
            if level in self.student.bfa and self.student.uses_bfa:
                maps["f_L'"] = adapted[level]
            storage.put_image(f"features/{level}: {', '.join(maps)}", feature_picture(maps))


def scale_ratio_of(settings: CfgNode) -> int:
    """Teacher pixels per pixel of the up-sampled student image, s / u, of MODEL.MHKD (``settings``).

    Raises:
        UserError: no scale factor, or one that the up-sampling does not divide.
    """
    scale, upsample = settings.SCALE_FACTOR, settings.UPSAMPLE
    if not scale:
        raise UserError("MODEL.MHKD.SCALE_FACTOR is 0", remedy="set it to teacher pixels per student pixel, such as 4")
    if scale % upsample:
        raise UserError(
            f"MODEL.MHKD.UPSAMPLE {upsample} does not divide the scale factor {scale}",
            remedy="set it to the factor itself, or to it divided by a power of two",
        )
    return scale // upsample


def check_weights(phase: Phase) -> None:
    """A weight that no loss reads, a loss without a weight, and a negative weight are errors."""
    weights = phase.weights
    if set(weights) != set(LOSSES):
        raise UserError(
            f"the loss weights are of {', '.join(sorted(weights))}",
            remedy=f"give one for each of {', '.join(LOSSES)}, and 0 to switch it off",
        )
    if negative := [name for name, weight in weights.items() if weight < 0]:
        raise UserError(f"the loss weight of {', '.join(negative)} is negative", remedy="use 0 to switch a loss off")
    if phase.teacher_parts and not weights["semantic_cls"]:
        raise UserError(
            "MODEL.MHKD.TEACHER.TRAINABLE needs MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CLS",
            remedy="mutual learning exchanges class scores: give that a weight, or set TRAINABLE to []",
        )

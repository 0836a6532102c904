"""MHKD: teacher and student side by side, one dict of losses out."""

from __future__ import annotations

import math
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mhkd.losses.feature import FEATURE_LOSSES
from mhkd.losses.local import local_loss
from mhkd.losses.output import bounded_box_loss, class_loss
from mhkd.modeling.student import UpsampledRCNN
from mhkd.modeling.teacher import Teacher
from preprocess.errors import UserError


@META_ARCH_REGISTRY.register()
class MHKD(nn.Module):
    """Distils a frozen teacher into a student that sees low magnification.

    Which losses run is decided by their weights alone, so every phase of the method is a configuration of
    this one class. The student's own detection losses are always part of the dict.

    Notation of docs/method.md: f_H, f_L and f_L' are pyramids; f_LL and f_HL are f_L' and f_H pooled on the
    student's proposals; O_L and O_H are the outputs of the two box heads on them.
    """

    @configurable
    def __init__(
        self,
        *,
        student: UpsampledRCNN,
        teacher: Teacher,
        weights: dict[str, float],
        scale_ratio: int = 1,
        feature_loss: str = "pkd",
        feature_levels: tuple[str, ...] = ("p2", "p3", "p4", "p5"),
        temperature: float = 1.0,
        warmup_iters: int = 0,
    ) -> None:
        """
        Args:
            weights: of the losses "feature", "local", "semantic_cls" and "semantic_box"; 0 switches one off.
            scale_ratio: teacher pixels per pixel of the up-sampled student image, a power of two. The
                pyramids align shifted by log2 of it: student p2 with teacher p3 where it is 2.
            feature_levels: student levels to distil.
            warmup_iters: the distillation weights ramp up linearly over so many iterations.
        """
        super().__init__()
        if feature_loss not in FEATURE_LOSSES:
            raise UserError(f"unknown feature loss {feature_loss!r}", remedy=f"use one of {', '.join(FEATURE_LOSSES)}")
        if scale_ratio < 1 or scale_ratio & (scale_ratio - 1):
            raise UserError(
                f"teacher and up-sampled student differ by a factor of {scale_ratio}",
                remedy="set MODEL.MHKD.UPSAMPLE to the scale factor of the tiles divided by a power of two",
            )
        for name, heads in (("student", student.roi_heads), ("teacher", teacher.roi_heads)):
            if type(heads) is not StandardROIHeads or heads.mask_on or heads.keypoint_on:
                raise UserError(
                    f"the {name}'s MODEL.ROI_HEADS are {type(heads).__name__}",
                    remedy="distillation needs StandardROIHeads with boxes only",
                )
        self.student = student
        self.teacher = teacher
        self.weights = weights
        self.scale_ratio = scale_ratio
        self.feature_loss = FEATURE_LOSSES[feature_loss]
        self.temperature = temperature
        self.warmup_iters = warmup_iters
        self.levels = self._align_levels(feature_levels) if weights["feature"] else {}

    @classmethod
    def from_config(cls, cfg: CfgNode, teacher: Teacher, scale_ratio: int) -> dict[str, Any]:
        settings = cfg.MODEL.MHKD
        return {
            "student": UpsampledRCNN(cfg),
            "teacher": teacher,
            "weights": {name.lower(): weight for name, weight in settings.LOSS_WEIGHTS.items()},
            "scale_ratio": scale_ratio,
            "feature_loss": settings.FEATURE_LOSS,
            "feature_levels": tuple(settings.FEATURE_LEVELS),
            "temperature": settings.TEMPERATURE,
            "warmup_iters": cfg.SOLVER.WARMUP_ITERS,
        }

    def _align_levels(self, wanted: tuple[str, ...]) -> dict[str, str]:
        """Student level -> teacher level of equal size, for the wanted levels that both pyramids have."""
        shift = int(math.log2(self.scale_ratio))
        student = self.student.backbone.output_shape()
        teacher = self.teacher.detector.backbone.output_shape()
        shifted = {level: f"p{int(level[1:]) + shift}" for level in wanted}
        pairs = {s: t for s, t in shifted.items() if s in student and t in teacher}
        for s, t in pairs.items():
            if student[s].channels != teacher[t].channels:
                raise UserError(
                    f"student {s} has {student[s].channels} channels, teacher {t} {teacher[t].channels}",
                    remedy="give both the same MODEL.FPN.OUT_CHANNELS",
                )
        if not pairs:
            raise UserError(
                f"student and teacher share none of the levels {', '.join(wanted)}",
                remedy="change MODEL.MHKD.FEATURE_LEVELS or MODEL.MHKD.UPSAMPLE",
            )
        return pairs

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: per pair ``image`` and ``instances`` (student pixels) and, in training,
                ``teacher_image`` (teacher pixels); images uint8 (3, h, w).

        Returns:
            In training a dict of scalar losses, distillation losses as ``loss_kd_*``; otherwise the
            student's detections.
        """
        if not self.training:
            return self.student(batched_inputs)
        with self.student.autocast():
            return self._training_losses(batched_inputs)

    def _training_losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        student, heads = self.student, self.student.roi_heads
        images = student.preprocess_image(batched_inputs)
        ground_truth = student.upsampled_ground_truth(batched_inputs)
        features = student.features(images)
        proposals, losses = student.proposal_generator(images, features, ground_truth)

        # What StandardROIHeads.forward does, step by step, to get at the pooled features and predictions
        # without a second pass.
        proposals = heads.label_and_sample_proposals(proposals, ground_truth)
        boxes = [x.proposal_boxes for x in proposals]
        pooled = heads.box_pooler([features[f] for f in heads.box_in_features], boxes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        losses.update(heads.box_predictor.losses((logits, deltas), proposals))

        weights = self.weights
        if not any(weights.values()):
            return losses
        distillation: dict[str, Tensor] = {}
        teacher_features = self.teacher.pyramid(batched_inputs)
        if weights["feature"]:
            distillation["feature"] = torch.stack(
                [self.feature_loss(features[s], teacher_features[t]) for s, t in self.levels.items()]
            ).sum()
        if weights["local"] or weights["semantic_cls"] or weights["semantic_box"]:
            teacher_boxes = [Boxes(b.tensor.detach() * self.scale_ratio) for b in boxes]
            teacher_pooled = self.teacher.pool(teacher_features, teacher_boxes)
            foreground = torch.cat([x.gt_classes for x in proposals]) < heads.num_classes
            if weights["local"]:
                distillation["local"] = local_loss(pooled, teacher_pooled, foreground)
            if weights["semantic_cls"] or weights["semantic_box"]:
                teacher_logits, teacher_deltas = self.teacher.predict(teacher_pooled)
                distillation["semantic_cls"] = class_loss(logits, teacher_logits, self.temperature)
                distillation["semantic_box"] = self._box_loss(proposals, foreground, deltas, teacher_deltas)
        ramp = self.distillation_ramp()
        losses.update({f"loss_kd_{k}": v * (ramp * weights[k]) for k, v in distillation.items() if weights[k]})
        return losses

    def _box_loss(
        self, proposals: list[Instances], foreground: Tensor, deltas: Tensor, teacher_deltas: Tensor
    ) -> Tensor:
        """Teacher-bounded box distillation on the foreground RoIs, each read at its own class."""
        index = foreground.nonzero().flatten()
        classes = torch.cat([x.gt_classes for x in proposals])[index]

        def of_own_class(all_deltas: Tensor) -> Tensor:
            # The number of columns is spelled out: a batch without foreground leaves no rows to infer it from.
            per_class = all_deltas[index].view(len(index), all_deltas.shape[1] // 4, 4)
            # A class-agnostic regressor has a single column for every class.
            column = classes if per_class.shape[1] > 1 else torch.zeros_like(classes)
            return per_class[torch.arange(len(index), device=index.device), column]

        predictor = self.student.roi_heads.box_predictor
        source = torch.cat([x.proposal_boxes.tensor for x in proposals])[index]
        # Detectron2 leaves gt_boxes out for an image without objects; none of its RoIs is foreground.
        wanted = torch.cat([(x.gt_boxes if x.has("gt_boxes") else x.proposal_boxes).tensor for x in proposals])[index]
        target = predictor.box2box_transform.get_deltas(source, wanted)
        return bounded_box_loss(of_own_class(deltas), of_own_class(teacher_deltas), target)

    def distillation_ramp(self) -> float:
        """The share of the distillation weights in force, from the trainer's iteration: resume-proof."""
        return min(1.0, (get_event_storage().iter + 1) / (self.warmup_iters + 1))

"""Local and output distillation between two R-CNNs: on the RoIs that the student samples, stage by stage."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from mhkd.losses.local import local_loss
from mhkd.losses.pyramid import build_adapter
from mhkd.modeling.alignment import ALIGNMENTS, Pair, to_teacher
from mhkd.modeling.box_stages import Stage, check_box_branch, predictors, run_stages, stage_losses
from mhkd.modeling.choices import check_classes, one_of
from mhkd.modeling.outputs import Outputs, Terms, View
from mhkd.modeling.teacher import RoITeacher
from preprocess.errors import UserError


class RoIOutputs(Outputs):
    """f_LL towards f_HL, and O_L towards O_H, each the mean over the box stages that are compared."""

    reads = ("local", "semantic_cls", "semantic_box")

    def __init__(
        self,
        student: Any,
        teacher: RoITeacher,
        weights: dict[str, float],
        *,
        align: str = "shared",
        stages: str = "all",
        temperature: float = 1.0,
        reverse_kl: float = 0.5,
    ) -> None:
        """
        Args:
            weights: of the losses; one without a weight is not computed.
            align: "shared", "iou" or "crosskd"; see mhkd/modeling/alignment.py.
            stages: which box stages of a cascade are distilled, "all" (mean over them) or "last".
            reverse_kl: weight of the reverse KL that a trainable teacher learns from.
        """
        super().__init__()
        for name, detector in (("student", student), ("teacher", teacher.detector)):
            check_box_branch(detector.roi_heads, name)
        self.weights = weights
        self.is_semantic = bool(weights["semantic_cls"] or weights["semantic_box"])
        self.align = one_of(ALIGNMENTS, align, "MODEL.MHKD.ALIGN")
        self.wants_own_pass = align == "iou" and self.is_semantic
        self.temperature = temperature
        self.reverse_kl = reverse_kl
        self.stage_pairs = self._pair_stages(student.roi_heads, teacher.roi_heads, stages)
        # Only where something reads it: an adapter without a gradient would stall distributed training.
        self.adapter: nn.Module = nn.Identity()
        if weights["local"] or (self.is_semantic and align == "crosskd"):
            self.adapter = build_adapter(*(_roi_channels(d) for d in (student, teacher.detector)))

    @classmethod
    def from_settings(
        cls, settings: CfgNode, student: Any, teacher: RoITeacher, weights: dict[str, float], scale_ratio: int
    ) -> RoIOutputs:
        """As MODEL.MHKD (``settings``) says; RoIs fit at any ``scale_ratio``."""
        return cls(
            student,
            teacher,
            weights,
            align=settings.ALIGN,
            stages=settings.STAGES,
            temperature=settings.TEMPERATURE,
            reverse_kl=settings.TEACHER.REVERSE_KL,
        )

    def _pair_stages(self, student: Any, teacher: Any, which: str) -> list[tuple[int, int]]:
        """(student stage, teacher stage) that are compared: each with its own, or the last with the last."""
        one_of({"all": None, "last": None}, which, "MODEL.MHKD.STAGES")
        ours, theirs = predictors(student), predictors(teacher)
        pairs = [(len(ours) - 1, len(theirs) - 1)]
        if which == "all" and len(ours) == len(theirs):
            pairs = [(i, i) for i in range(len(ours))]
        if self.is_semantic:
            check_classes(student.num_classes, teacher.num_classes)
        for s, t in pairs:
            scales = (tuple(predictor.box2box_transform.weights) for predictor in (ours[s], theirs[t]))
            if self.weights["semantic_box"] and len(set(scales)) > 1:
                raise UserError(
                    "student and teacher scale their box deltas differently",
                    remedy="give both the same BBOX_REG_WEIGHTS, or set MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_BOX to 0",
                )
        return pairs

    def student_pass(
        self, student: Any, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> tuple[Terms, list[Stage]]:
        proposals, losses = student.proposal_generator(images, features, ground_truth)
        # Step by step, to get at the pooled features and predictions without a second pass.
        stages = run_stages(student.roi_heads, features, proposals, ground_truth)
        return {**losses, **stage_losses(student.roi_heads, stages)}, stages

    def compare(self, student: Any, teacher: Any, answer: list[Stage], view: View) -> tuple[Terms, Terms]:
        if not (self.weights["local"] or self.is_semantic):
            return {}, {}
        own_pass: list[Stage] = []
        if teacher.trainable or self.wants_own_pass:
            targets = view.teacher_ground_truth() if teacher.trainable else None
            own_pass = teacher.detect(view.teacher_images, view.teacher_pyramid, targets)
        found: dict[str, list[Tensor]] = {}
        for index, teacher_index in self.stage_pairs:
            for name, term in self._stage_terms(
                student, teacher, answer[index], own_pass, view, (index, teacher_index)
            ):
                found.setdefault(name, []).append(term)
        terms = {name: torch.stack(values).mean() for name, values in found.items()}
        return terms, teacher.losses(own_pass) if teacher.trainable else {}

    def _stage_terms(
        self,
        student: Any,
        teacher: RoITeacher,
        stage: Stage,
        own_pass: list[Stage],
        view: View,
        indices: tuple[int, int],
    ) -> list[tuple[str, Tensor]]:
        weights = self.weights
        adapted = self.adapter(stage.pooled)
        if self.wants_own_pass and not weights["local"]:
            pooled = stage.pooled  # the outputs come from the teacher's own pass
        else:
            boxes = [to_teacher(b, scale) for b, scale in zip(stage.boxes, view.scales, strict=True)]
            pooled = teacher.pool(view.teacher_pyramid, boxes)
        terms: list[tuple[str, Tensor]] = []
        if weights["local"]:
            terms.append(("local", local_loss(adapted, pooled, stage.foreground)))
        if self.is_semantic:
            predictor = predictors(student.roi_heads)[indices[0]]
            pair = Pair(stage, adapted, pooled, predictor, indices[1], own_pass, view.scales)
            outputs = self.align(pair, teacher)
            if weights["semantic_cls"]:
                terms.append(("semantic_cls", outputs.class_loss(self.temperature)))
            if weights["semantic_box"]:
                terms.append(("semantic_box", outputs.box_loss()))
            if teacher.trainable:
                terms.append(("reverse", self.reverse_kl * outputs.reverse_class_loss(self.temperature)))
        return terms


def _roi_channels(detector: Any) -> int:
    return detector.backbone.output_shape()[detector.roi_heads.box_in_features[0]].channels

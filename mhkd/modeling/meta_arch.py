"""MHKD: teacher and student side by side, one dict of losses out."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mhkd.losses.local import local_loss
from mhkd.losses.pyramid import PyramidLoss, build_adapter
from mhkd.modeling.alignment import ALIGNMENTS, Pair, Scales, to_teacher
from mhkd.modeling.box_stages import Stage, check_box_branch, predictors, run_stages, stage_losses
from mhkd.modeling.levels import build_pyramid_loss, level_shift
from mhkd.modeling.pictures import feature_picture
from mhkd.modeling.student import UpsampledRCNN
from mhkd.modeling.teacher import Teacher
from preprocess.errors import UserError

LOSSES = ("feature", "local", "semantic_cls", "semantic_box")


@META_ARCH_REGISTRY.register()
class MHKD(nn.Module):
    """Distils a teacher into a student that sees low magnification.

    Which losses run is decided by their weights alone, so every phase of the method is a configuration of
    this one class. The student's own detection losses are always part of the dict.

    Notation of docs/method.md: f_H, f_L and f_L' are pyramids; f_LL and f_HL are f_L' and f_H pooled on the
    student's proposals; O_L and O_H are the outputs of the two box heads.
    """

    @configurable
    def __init__(
        self,
        *,
        student: UpsampledRCNN,
        teacher: Teacher,
        weights: dict[str, float],
        pyramid_loss: PyramidLoss | None = None,
        scale_ratio: int = 1,
        align: str = "shared",
        stages: str = "all",
        temperature: float = 1.0,
        reverse_kl: float = 0.5,
        warmup_iters: int = 0,
        vis_period: int = 0,
    ) -> None:
        """
        Args:
            weights: of the losses "feature", "local", "semantic_cls" and "semantic_box"; 0 switches one off.
            pyramid_loss: the feature loss; needed where "feature" has a weight, and only there.
            scale_ratio: teacher pixels per pixel of the up-sampled student image, a power of two.
            align: "shared", "iou" or "crosskd"; see mhkd/modeling/alignment.py.
            stages: which box stages of a cascade are distilled, "all" (mean over them) or "last".
            reverse_kl: weight of the reverse KL that a trainable teacher learns from.
            warmup_iters: the distillation weights ramp up linearly over so many iterations.
            vis_period: every so many iterations the features go to TensorBoard as pictures; 0 for never.
        """
        super().__init__()
        check_weights(weights, has_pyramid_loss=pyramid_loss is not None)
        level_shift(scale_ratio)
        for name, detector in (("student", student), ("teacher", teacher.detector)):
            check_box_branch(detector.roi_heads, name)
        self.student = student
        self.teacher = teacher
        self.weights = weights
        self.pyramid_loss = pyramid_loss
        self.align = _one_of(ALIGNMENTS, align, "MODEL.MHKD.ALIGN")
        self.wants_own_pass = align == "iou" and self.is_semantic
        self.temperature = temperature
        self.reverse_kl = reverse_kl
        self.warmup_iters = warmup_iters
        self.vis_period = vis_period
        self.stage_pairs = self._pair_stages(stages)
        if teacher.trainable and not weights["semantic_cls"]:
            raise UserError(
                "MODEL.MHKD.TEACHER.TRAINABLE needs MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CLS",
                remedy="mutual learning exchanges class scores: give that a weight, or set TRAINABLE to []",
            )
        # Only where something reads it: an adapter without a gradient would stall distributed training.
        if weights["local"] or (self.is_semantic and align == "crosskd"):
            self.roi_adapter = build_adapter(*(self._roi_channels(d) for d in (student, teacher.detector)))
        else:
            self.roi_adapter = nn.Identity()

    @classmethod
    def from_config(cls, cfg: CfgNode, teacher: Teacher, scale_ratio: int) -> dict[str, Any]:
        settings = cfg.MODEL.MHKD
        student = UpsampledRCNN(cfg)
        weights = {name.lower(): weight for name, weight in settings.LOSS_WEIGHTS.items()}
        shapes = student.backbone.output_shape(), teacher.detector.backbone.output_shape()
        return {
            "student": student,
            "teacher": teacher,
            "weights": weights,
            "pyramid_loss": build_pyramid_loss(settings, *shapes, scale_ratio) if weights["feature"] else None,
            "scale_ratio": scale_ratio,
            "align": settings.ALIGN,
            "stages": settings.STAGES,
            "temperature": settings.TEMPERATURE,
            "reverse_kl": settings.TEACHER.REVERSE_KL,
            "warmup_iters": cfg.SOLVER.WARMUP_ITERS,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def is_semantic(self) -> bool:
        """Whether outputs are distilled."""
        return bool(self.weights["semantic_cls"] or self.weights["semantic_box"])

    def _roi_channels(self, detector: Any) -> int:
        return detector.backbone.output_shape()[detector.roi_heads.box_in_features[0]].channels

    def _pair_stages(self, which: str) -> list[tuple[int, int]]:
        """(student stage, teacher stage) that are compared: each with its own, or the last with the last."""
        _one_of({"all": None, "last": None}, which, "MODEL.MHKD.STAGES")
        ours, theirs = (predictors(heads) for heads in (self.student.roi_heads, self.teacher.roi_heads))
        pairs = [(len(ours) - 1, len(theirs) - 1)]
        if which == "all" and len(ours) == len(theirs):
            pairs = [(i, i) for i in range(len(ours))]
        counts = self.student.roi_heads.num_classes, self.teacher.roi_heads.num_classes
        if self.is_semantic and len(set(counts)) > 1:
            raise UserError(
                f"the student has {counts[0]} classes, the teacher {counts[1]}",
                remedy="train the teacher on these tiles, or set both MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_* to 0",
            )
        for s, t in pairs:
            scales = (tuple(predictor.box2box_transform.weights) for predictor in (ours[s], theirs[t]))
            if self.weights["semantic_box"] and len(set(scales)) > 1:
                raise UserError(
                    "student and teacher scale their box deltas differently",
                    remedy="give both the same BBOX_REG_WEIGHTS, or set MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_BOX to 0",
                )
        return pairs

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
        proposals, losses = student.proposal_generator(images, features, ground_truth)
        # Step by step, to get at the pooled features and predictions without a second pass.
        stages = run_stages(student.roi_heads, features, proposals, ground_truth)
        losses.update(stage_losses(student.roi_heads, stages))
        if not any(self.weights.values()):
            return losses

        teacher_images, teacher_features = self.teacher.pyramid(batched_inputs)
        terms: dict[str, Tensor] = {}
        if self.pyramid_loss is not None:
            size = max(h for h, _ in images.image_sizes), max(w for _, w in images.image_sizes)
            boxes = [x.gt_boxes.tensor for x in ground_truth]
            with torch.autocast(images.tensor.device.type, enabled=False):
                terms["feature"] = self.pyramid_loss(features, teacher_features, size, boxes)
        if self.weights["local"] or self.is_semantic:
            scales = [
                (tw / w, th / h)
                for (h, w), (th, tw) in zip(images.image_sizes, teacher_images.image_sizes, strict=True)
            ]
            teacher_stages = self._teacher_pass(teacher_images, teacher_features, ground_truth, scales)
            if self.teacher.trainable:
                losses.update(self.teacher.losses(teacher_stages))
            terms.update(self._roi_terms(stages, teacher_stages, teacher_features, scales))
        ramp = self.distillation_ramp()
        weights = {**self.weights, "reverse": self.reverse_kl}
        losses.update({f"loss_kd_{name}": term * (ramp * weights[name]) for name, term in terms.items()})
        self._picture(raw, features, teacher_features)
        return losses

    def _teacher_pass(
        self, images: ImageList, pyramid: dict[str, Tensor], ground_truth: list[Instances], scales: Scales
    ) -> list[Stage]:
        """The teacher's pass over its own proposals, where something reads it."""
        if not (self.teacher.trainable or self.wants_own_pass):
            return []
        targets = None
        if self.teacher.trainable:
            targets = []
            for given, scale, size in zip(ground_truth, scales, images.image_sizes, strict=True):
                moved = Instances(size, gt_classes=given.gt_classes)
                moved.gt_boxes = to_teacher(given.gt_boxes, scale)
                targets.append(moved)
        return self.teacher.detect(images, pyramid, targets)

    def _roi_terms(
        self, stages: list[Stage], teacher_stages: list[Stage], pyramid: dict[str, Tensor], scales: Scales
    ) -> dict[str, Tensor]:
        """Local and output distillation, each the mean over the stages that are compared."""
        found: dict[str, list[Tensor]] = {}
        weights, heads = self.weights, self.student.roi_heads
        for index, teacher_index in self.stage_pairs:
            stage = stages[index]
            adapted = self.roi_adapter(stage.pooled)
            boxes = [to_teacher(b, scale) for b, scale in zip(stage.boxes, scales, strict=True)]
            # Under "iou" the outputs come from the teacher's own pass.
            pooled = stage.pooled if self.wants_own_pass and not weights["local"] else self.teacher.pool(pyramid, boxes)
            if weights["local"]:
                foreground = stage.classes < heads.num_classes
                found.setdefault("local", []).append(local_loss(adapted, pooled, foreground))
            if self.is_semantic:
                predictor = predictors(heads)[index]
                pair = Pair(stage, adapted, pooled, predictor, teacher_index, teacher_stages, scales)
                outputs = self.align(pair, self.teacher)
                if weights["semantic_cls"]:
                    found.setdefault("semantic_cls", []).append(outputs.class_loss(self.temperature))
                if weights["semantic_box"]:
                    found.setdefault("semantic_box", []).append(outputs.box_loss())
                if self.teacher.trainable:
                    found.setdefault("reverse", []).append(outputs.reverse_class_loss(self.temperature))
        return {name: torch.stack(values).mean() for name, values in found.items()}

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


def _one_of(known: dict[str, Any], name: str, key: str) -> Any:
    if name not in known:
        raise UserError(f"{key} is {name!r}", remedy=f"use one of {', '.join(known)}")
    return known[name]

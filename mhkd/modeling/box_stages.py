"""The box branch of Faster R-CNN (one stage) and Cascade R-CNN (several) step by step.

Distillation reads the pooled features and the predictions of every stage; Detectron2's own forward keeps them to
itself. With targets these functions compute what it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads.cascade_rcnn import _ScaleGradient
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from preprocess.base.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One stage's RoIs and what it made of them.

    proposals: per image with ``proposal_boxes`` and, where there were targets, ``gt_classes`` and ``gt_boxes``.
    pooled: (R, C, 7, 7). logits: (R, K + 1), background last. deltas: (R, 4) or (R, 4 K).
    """

    proposals: list[Instances]
    pooled: Tensor
    logits: Tensor
    deltas: Tensor

    @property
    def boxes(self) -> list[Boxes]:
        return [x.proposal_boxes for x in self.proposals]

    @property
    def classes(self) -> Tensor:
        """(R,) ground-truth class of each RoI, K for background."""
        return torch.cat([x.gt_classes for x in self.proposals])

    @property
    def foreground(self) -> Tensor:
        """(R,) whether a RoI is of an object."""
        return self.classes < self.logits.shape[1] - 1


def check_box_branch(heads: Any, whose: str) -> None:
    """Refuse RoI heads of which this module does not know how they run."""
    if type(heads) not in (StandardROIHeads, CascadeROIHeads) or heads.mask_on or heads.keypoint_on:
        raise UserError(
            f"the {whose}'s MODEL.ROI_HEADS are {type(heads).__name__}",
            remedy="distillation needs StandardROIHeads or CascadeROIHeads with boxes only",
        )
    if any(predictor.use_sigmoid_ce for predictor in predictors(heads)):
        raise UserError(
            f"the {whose} has MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", remedy="distillation compares softmax scores"
        )


def predictors(heads: StandardROIHeads) -> list[Any]:
    """The output layers of every stage."""
    return list(heads.box_predictor) if isinstance(heads, CascadeROIHeads) else [heads.box_predictor]


def predict(heads: StandardROIHeads, pooled: Tensor, stage: int) -> tuple[Tensor, Tensor]:
    """Class logits and box deltas of ``stage`` for pooled features (R, C, 7, 7)."""
    if isinstance(heads, CascadeROIHeads):
        return heads.box_predictor[stage](heads.box_head[stage](pooled))
    return heads.box_predictor(heads.box_head(pooled))


def poolable(heads: StandardROIHeads, features: dict[str, Tensor]) -> list[Tensor]:
    """The levels that ``heads`` pool from, (N, C, H, W) each, in the form that their pooler takes.

    On a GPU that is float32 with the channels apart, in one copy for all stages; left to itself, the pooler makes two
    for each, and rounds RoIs to the precision of the features. On a CPU mhkd's pooler takes them as they are.
    """
    levels = [features[level] for level in heads.box_in_features]
    if levels[0].is_cuda:
        return [level.to(torch.float32, memory_format=torch.contiguous_format) for level in levels]
    return levels


def run_stages(
    heads: StandardROIHeads,
    features: dict[str, Tensor],
    proposals: list[Instances],
    targets: list[Instances] | None = None,
) -> list[Stage]:
    """Run every stage; with ``targets`` proposals are sampled and labelled as in training."""
    if targets is not None:
        proposals = heads.label_and_sample_proposals(proposals, targets)
    pyramid = poolable(heads, features)
    sizes = [x.image_size for x in proposals]
    stages: list[Stage] = []
    count = len(predictors(heads))
    for index in range(count):
        if index:
            last = stages[-1]
            boxes = predictors(heads)[index - 1].predict_boxes((last.logits, last.deltas), last.proposals)
            proposals = heads._create_proposals_from_boxes(boxes, sizes)
            if targets is not None:
                proposals = heads._match_and_label_boxes(proposals, index, targets)
        pooled = heads.box_pooler(pyramid, [x.proposal_boxes for x in proposals])
        # As in Cascade R-CNN, the stages share the gradient on the features between them.
        scaled = _ScaleGradient.apply(pooled, 1.0 / count) if count > 1 else pooled
        stages.append(Stage(proposals, pooled, *predict(heads, scaled, index)))
    return stages


def stage_losses(heads: StandardROIHeads, stages: list[Stage]) -> dict[str, Tensor]:
    """The detection losses, named as Detectron2 names them (``_stage0`` and so on for a cascade)."""
    losses: dict[str, Tensor] = {}
    for index, (predictor, stage) in enumerate(zip(predictors(heads), stages, strict=True)):
        outputs = (stage.logits, stage.deltas)
        if len(stages) == 1:
            return predictor.losses(outputs, stage.proposals)
        with get_event_storage().name_scope(f"stage{index}"):
            own = predictor.losses(outputs, stage.proposals)
        losses.update({f"{name}_stage{index}": loss for name, loss in own.items()})
    return losses

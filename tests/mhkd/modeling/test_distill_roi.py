from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mhkd.modeling.box_stages import Stage
from mhkd.modeling.distill_roi import (
    ALIGNMENTS,
    AlignedOutputs,
    Pair,
    align_iou,
    align_shared,
    bounded_box_loss,
    class_loss,
    of_own_class,
    register_alignment,
    to_teacher,
)
from mhkd.modeling.teacher import RoITeacher, Teacher
from preprocess.base.errors import UserError
from tests.mhkd.losses import reference
from tests.mhkd.modeling.pairs import distiller, pair

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))


def stage(boxes: list[list[float]], classes: list[int], logits: list[list[float]], deltas: list[list[float]]) -> Stage:
    proposals = Instances((100, 100), proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    proposals.gt_classes = torch.tensor(classes, dtype=torch.long)
    proposals.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4) + 1)
    columns = len(deltas[0]) if deltas else 4
    return Stage(
        [proposals],
        torch.zeros(len(boxes), 1),
        torch.tensor(logits).reshape(-1, 2),
        torch.tensor(deltas).reshape(-1, columns),
    )


def aligned(student: Stage, teacher: Stage, scale: tuple[float, float] = (2.0, 2.0)) -> AlignedOutputs:
    pair = Pair(
        student=student,
        adapted=student.pooled,
        teacher_pooled=student.pooled,
        predictor=SimpleNamespace(box2box_transform=TRANSFORM),
        teacher_stage=0,
        teacher_stages=[teacher],
        scales=[scale],
    )
    return align_iou(pair, cast(Teacher, None))


def test_iou_takes_the_teacher_output_that_overlaps_best() -> None:
    zeros = [0.0] * 4
    student = stage([[0.0, 0, 10, 10], [40.0, 40, 50, 50]], [0, 0], [[1.0, 0], [2.0, 0]], [zeros, zeros])
    # In teacher pixels, twice as large: the second and third overlap the first RoI by 0.6 and 0.9; nothing the other.
    teacher = stage(
        [[60.0, 0, 70, 10], [0.0, 0, 12, 20], [0.0, 0, 18, 20]],
        [0, 0, 0],
        [[9.0, 0], [8.0, 0], [7.0, 0]],
        [zeros, zeros, [0.0, 0.0, 0.0, 0.0]],
    )
    outputs = aligned(student, teacher)
    assert outputs.teacher_logits.tolist() == [[7, 0]]
    assert outputs.student_logits.tolist() == [[1, 0]]
    # The teacher's box (0, 0, 18, 20), in student pixels (0, 0, 9, 10), as deltas of the RoI (0, 0, 10, 10).
    expected = TRANSFORM.get_deltas(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 9, 10]]))
    torch.testing.assert_close(outputs.teacher_deltas, expected)
    torch.testing.assert_close(
        outputs.target_deltas, TRANSFORM.get_deltas(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[1.0, 1, 11, 11]]))
    )


def test_background_rois_have_scores_to_learn_and_no_boxes() -> None:
    student = stage([[0.0, 0, 10, 10]], [1], [[1.0, 0]], [[0.0] * 4])
    outputs = aligned(student, stage([[0.0, 0, 20, 20]], [1], [[3.0, 0]], [[0.0] * 4]))
    assert len(outputs.student_logits) == 1
    assert len(outputs.student_deltas) == len(outputs.target_deltas) == 0


def test_a_teacher_that_proposes_nothing_teaches_nothing() -> None:
    student = stage([[0.0, 0, 10, 10]], [0], [[1.0, 0]], [[0.0] * 4])
    outputs = aligned(student, stage([], [], [], []))
    assert outputs.class_loss(1.0).item() == 0
    assert outputs.box_loss().item() == 0


def test_deltas_are_those_of_the_own_class() -> None:
    deltas = torch.arange(16.0).view(2, 8)
    assert of_own_class(deltas, torch.tensor([1, 0])).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert of_own_class(deltas[:, :4], torch.tensor([1, 0])).tolist() == deltas[:, :4].tolist()
    assert of_own_class(deltas[:0], torch.zeros(0, dtype=torch.long)).shape == (0, 4)


def test_boxes_scale_by_each_side() -> None:
    assert to_teacher(Boxes(torch.tensor([[1.0, 2, 3, 4]])), (2.0, 3.0)).tensor.tolist() == [[2, 6, 6, 12]]


def test_each_side_of_mutual_learning_sees_the_other_fixed() -> None:
    student, teacher = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    nothing: Any = torch.zeros(0, 4)
    outputs = AlignedOutputs(student, student, teacher, nothing, nothing, nothing)
    outputs.class_loss(2.0).backward()
    assert student.grad is not None
    assert teacher.grad is None
    student.grad = None
    reverse = outputs.reverse_class_loss(2.0)
    assert reverse.item() == pytest.approx(class_loss(teacher, student, 2.0).item())
    reverse.backward()
    assert teacher.grad is not None
    assert student.grad is None


def test_kl_by_hand() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4, 1/4
    student = torch.zeros(1, 2)  # 1/2, 1/2
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert class_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert class_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_temperature_by_hand() -> None:
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert class_loss(torch.zeros(1, 2), teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_boxes_are_distilled_only_where_the_student_is_worse() -> None:
    target = torch.zeros(2, 4)
    student = torch.tensor([[1.0, 0, 0, 0], [0.1, 0, 0, 0]])
    teacher = torch.tensor([[0.5, 0, 0, 0], [0.9, 0, 0, 0]])
    # First RoI: |1 - 0.5| - beta / 2 with beta 0.1; second: the teacher is further off. Mean over both.
    assert bounded_box_loss(student, teacher, target).item() == pytest.approx(0.45 / 2)


def test_no_rois_no_loss() -> None:
    assert class_loss(torch.zeros(0, 2), torch.zeros(0, 2)).item() == 0.0
    assert bounded_box_loss(*(torch.zeros(0, 4) for _ in range(3))).item() == 0.0


def float64(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_both_losses_agree_with_the_reference() -> None:
    torch.manual_seed(0)
    student, teacher = float64(7, 6), float64(7, 6)
    for temperature in (1.0, 3.0):
        expected = reference.kl(student.numpy(), teacher.numpy(), temperature)
        assert class_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)
    boxes = [0.2 * float64(9, 4) for _ in range(3)]
    expected = reference.bounded_boxes(*(b.numpy() for b in boxes), beta=0.1)
    assert expected > 0
    assert bounded_box_loss(*boxes).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradients_of_both_losses_are_right() -> None:
    torch.manual_seed(0)
    student, teacher, target = float64(5, 4).requires_grad_(), float64(5, 4), float64(5, 4)
    assert torch.autograd.gradcheck(lambda x: class_loss(x, teacher, 2.0), student)
    assert torch.autograd.gradcheck(lambda x: bounded_box_loss(x, teacher, target), student)


def test_an_alignment_of_a_users_own_is_found_by_its_name(
    tiny_cfg: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the fields that it asks for: the adapter to the teacher's channels, and the teacher's own pass."""
    monkeypatch.setattr(ALIGNMENTS, "_obj_map", dict(ALIGNMENTS._obj_map))
    seen: list[Pair] = []

    @register_alignment("mine", needs=("adapted", "teacher_pooled", "teacher_stages"))
    def align_mine(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
        seen.append(pair)
        return align_shared(pair, teacher)

    channels = ("MODEL.FPN.OUT_CHANNELS", 64)
    model = distiller(tiny_cfg, "MODEL.MHKD.ALIGN", "mine", *channels, losses=("SEMANTIC_CLS",))
    with EventStorage(0):
        assert model([pair([[4.0, 4, 20, 22]])])["loss_kd_semantic_cls"].item() > 0
    assert seen[0].student.pooled.shape[1] == 64
    assert seen[0].adapted.shape[1] == seen[0].teacher_pooled.shape[1] == 32
    assert len(seen[0].teacher_stages) == 1
    with pytest.raises(UserError, match=r"MODEL.MHKD.ALIGN is 'yours'.*shared, crosskd, iou, mine"):
        distiller(tiny_cfg, "MODEL.MHKD.ALIGN", "yours")
    with pytest.raises(ValueError, match="cannot ask for boxes"):
        register_alignment("other", needs=("boxes",))

from __future__ import annotations

import numpy as np
import pytest
import torch

from mhkd.losses.fgd import FGD, GlobalContext
from preprocess.base.errors import UserError
from tests.mhkd.losses import reference

BOXES = [[[0.3, 0.2, 2.5, 1.4], [1.1, 0.0, 1.9, 2.0]], [[2.0, 1.0, 4.0, 3.0]]]


def in_numpy(block: GlobalContext, features: np.ndarray) -> np.ndarray:
    """What ``block`` computes, by the reference."""
    attend = block.attention.weight.detach().numpy().reshape(-1)
    down, norm, _, up = block.transform
    matrices = [
        p.detach().numpy()
        for p in (down.weight[..., 0, 0], down.bias, norm.weight, norm.bias, up.weight[..., 0, 0], up.bias)
    ]
    down_w, down_b, scale, shift, up_w, up_b = matrices
    return reference.global_context(features, attend, down_w, down_b, scale.reshape(-1), shift.reshape(-1), up_w, up_b)


def test_fgd_agrees_with_the_reference() -> None:
    torch.manual_seed(0)
    loss = FGD(4).double()
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    student, teacher = torch.randn(2, 4, 3, 4).double(), torch.randn(2, 4, 3, 4).double()
    contexts = (lambda x: in_numpy(loss.student_context, x)), (lambda x: in_numpy(loss.teacher_context, x))
    expected = reference.fgd(student.numpy(), teacher.numpy(), BOXES, contexts)
    found = loss(student, teacher, [torch.tensor(boxes) for boxes in BOXES]).item()
    assert found == pytest.approx(expected, rel=1e-9)


def test_foreground_weighs_by_its_box() -> None:
    """By hand: a flat teacher has attention 1 everywhere, so an error of 1 in one cell counts 1 / (box area)."""
    teacher = torch.zeros(1, 2, 2, 4, dtype=torch.float64)
    student = teacher.clone()
    box = [torch.tensor([[0.0, 0.0, 2.0, 2.0]])]
    terms = []
    for x in (0, 3):  # inside the box of four cells, outside among four
        moved = student.clone()
        moved[0, :, 0, x] = 0.01
        loss = FGD(2).double()
        with torch.no_grad():
            terms.append(loss(moved, teacher, box).item())
    # 5e-5 / 4 per squared error inside, 2.5e-5 / 4 outside; everything else is the same by symmetry.
    assert terms[0] - terms[1] == pytest.approx(2 * 0.01**2 * (5e-5 - 2.5e-5) / 4, rel=1e-2)


def test_the_relation_blocks_train() -> None:
    loss = FGD(4)
    loss(torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3), [torch.zeros(0, 4)]).backward()
    assert loss.student_context.transform[-1].weight.grad.abs().sum() > 0


def test_the_foreground_switch_is_refused() -> None:
    with pytest.raises(UserError, match="FEATURE_FOREGROUND"):
        FGD(4, foreground_only=True)

from __future__ import annotations

import pytest
import torch

from mhkd.losses.feature import MSE
from mhkd.losses.pyramid import PyramidLoss, build_adapter, same_extent
from preprocess.base.errors import UserError


def pyramid_loss(weight: float = 1.0, channels: tuple[int, int] = (1, 1)) -> PyramidLoss:
    return PyramidLoss(
        {"p3": "p4", "p4": "p5"},
        strides={"p3": 8, "p4": 16},
        adapters={level: build_adapter(*channels) for level in ("p3", "p4")},
        losses={level: MSE(channels[1]) for level in ("p3", "p4")},
        weights={"p3": weight, "p4": 1.0},
    )


def levels(names: str, *values: float, channels: int = 1) -> dict[str, torch.Tensor]:
    return {
        name: torch.full((1, channels, 8 // 2**i, 8 // 2**i), value)
        for i, (name, value) in enumerate(zip(names.split(), values, strict=True))
    }


def test_levels_add_up_by_their_weights() -> None:
    student, teacher = levels("p3 p4", 1.0, 2.0), levels("p4 p5", 4.0, 4.0)
    # (4 - 1)^2 and (4 - 2)^2
    assert pyramid_loss()(student, teacher, (64, 64), []).item() == 13.0
    assert pyramid_loss(weight=0.5)(student, teacher, (64, 64), []).item() == 8.5


def test_finer_cells_of_the_teacher_become_channels() -> None:
    loss = PyramidLoss({"p3": "p3"}, {"p3": 8}, {"p3": build_adapter(4, 4)}, {"p3": MSE(4)}, {"p3": 1.0}, finer=1)
    teacher = torch.arange(16.0).reshape(1, 1, 4, 4)  # p3 of an image that is twice as large
    student = torch.tensor([[0, 2], [8, 10]]).float() + torch.tensor([0.0, 1, 4, 5])[:, None, None]
    assert loss({"p3": student[None]}, {"p3": teacher}, (16, 16), []).item() == 0
    student[3, 1, 1] += 4  # one of 16 numbers
    assert loss({"p3": student[None]}, {"p3": teacher}, (16, 16), []).item() == 1


def test_other_channels_are_adapted() -> None:
    loss = pyramid_loss(channels=(2, 3))
    student, teacher = levels("p3 p4", 1.0, 2.0, channels=2), levels("p4 p5", 4.0, 4.0, channels=3)
    loss(student, teacher, (64, 64), []).backward()
    assert all(p.grad is not None for p in loss.adapters.parameters())
    assert isinstance(build_adapter(3, 3), torch.nn.Identity)


@pytest.mark.parametrize(("height", "width"), [(66, 90), (33, 45), (64, 64), (1, 1)])
def test_padding_to_multiples_of_32_at_two_scales_is_cut_off(height: int, width: int) -> None:
    """Student 66 x 90 px is padded to 96 x 96, teacher 132 x 180 to 160 x 192: p3 and p4 differ by two cells."""

    def level(scale: int, stride: int) -> torch.Tensor:
        rows, columns = (-(-side * scale // 32) * 32 // stride for side in (height, width))
        return torch.zeros(1, 1, rows, columns)

    student, teacher = same_extent(level(1, 8), level(2, 16), (height, width), 8)
    assert student.shape == teacher.shape
    assert student.shape[-2:] == (-(-height // 8), -(-width // 8))


@pytest.mark.parametrize(
    ("student", "teacher", "whose"),
    [
        ((8, 8), (4, 8), "teacher"),
        ((8, 8), (8, 16), "teacher"),
        ((8, 7), (8, 8), "student"),
        ((12, 8), (8, 8), "student"),
    ],
)
def test_what_differs_by_more_than_padding_is_never_cropped(
    student: tuple[int, int], teacher: tuple[int, int], whose: str
) -> None:
    """An image of 64 px has 8 cells of 8 px; padding to the next multiple of 32 px adds 3 at most."""
    with pytest.raises(UserError, match=rf"the {whose}'s features have .* image of 64 x 64 px has 8 x 8 of 8 px"):
        same_extent(torch.zeros(1, 1, *student), torch.zeros(1, 1, *teacher), (64, 64), 8)

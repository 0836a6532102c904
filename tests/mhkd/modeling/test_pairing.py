from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from mhkd.config import mhkd_cfg
from mhkd.modeling.detectors import UpsampledRCNN
from mhkd.modeling.distill_roi import RoIOutputs
from mhkd.modeling.pairing import (
    PAIRS,
    DistillationBatch,
    Outputs,
    as_teacher,
    build_pyramid_loss,
    check_teacher,
    level_shift,
    pair_levels,
    register_pair,
)
from mhkd.modeling.teacher import RoITeacher
from preprocess.base.errors import UserError
from tests.mhkd.modeling.pairs import distiller, pair

MakeCfg = Callable[..., CfgNode]
MIXED = [("retinanet", "demo"), ("fcos", "demo"), ("demo", "fcos"), ("demo", "retinanet"), ("fcos", "retinanet")]


@pytest.mark.parametrize("kinds", MIXED, ids="-of-".join)
def test_detectors_of_two_families_share_features_only(tiny_cfg: MakeCfg, kinds: tuple[str, str]) -> None:
    model = distiller(tiny_cfg, kinds=kinds)
    assert type(model.outputs) is Outputs
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]]), pair([])])
    assert {name for name in losses if "kd" in name} == {"loss_kd_feature"}
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize("kinds", MIXED, ids="-of-".join)
@pytest.mark.parametrize("loss", ["LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX"])
def test_their_outputs_are_refused_by_name(tiny_cfg: MakeCfg, kinds: tuple[str, str], loss: str) -> None:
    with pytest.raises(UserError, match=rf"LOSS_WEIGHTS\.{loss} has no meaning for a .* student of a .*FEATURE\)"):
        distiller(tiny_cfg, kinds=kinds, losses=("FEATURE", loss))


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("retinanet", "LOCAL"), ("fcos", "LOCAL"), ("retinanet", "SEMANTIC_CENTERNESS"), ("demo", "SEMANTIC_CENTERNESS")],
)
def test_a_loss_without_a_meaning_is_refused_by_name(tiny_cfg: MakeCfg, kind: str, loss: str) -> None:
    with pytest.raises(UserError, match=rf"LOSS_WEIGHTS\.{loss} has no meaning.*SEMANTIC_BOX"):
        distiller(tiny_cfg, kinds=(kind, kind), losses=("FEATURE", loss))


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_no_part_of_a_one_stage_teacher_learns(tiny_cfg: MakeCfg, kind: str) -> None:
    detector = build_model(tiny_cfg(f"{kind}/teacher"))
    assert not any(p.requires_grad for p in as_teacher(detector).parameters())
    with pytest.raises(UserError, match=r"TRAINABLE names roi_heads.*Upsampled.*use \[\]: "):
        as_teacher(detector, ("roi_heads",))


def test_other_detectors_do_not_teach() -> None:
    with pytest.raises(UserError, match=r"the teacher is a Linear.*RetinaNet, FCOS, GeneralizedRCNN"):
        as_teacher(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["RetinaNet", "MHKD", "nothing"])
def test_a_student_has_an_up_sampled_input(tiny_cfg: MakeCfg, name: str) -> None:
    with pytest.raises(UserError, match=r"STUDENT is .*UpsampledRCNN"):
        distiller(tiny_cfg, "MODEL.MHKD.STUDENT", name)


def test_a_pair_of_a_users_own_is_found_by_the_name_of_its_student(
    tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its detector is a kind of Faster R-CNN, which has a pair of its own: the nearer one counts."""
    monkeypatch.setattr("mhkd.modeling.pairing.PAIRS", dict(PAIRS))
    monkeypatch.setattr(META_ARCH_REGISTRY, "_obj_map", dict(META_ARCH_REGISTRY._obj_map))

    @META_ARCH_REGISTRY.register()
    class MyRCNN(UpsampledRCNN):
        """A detector of a user's."""

    class MyTeacher(RoITeacher):
        """And what it becomes where it teaches."""

    @register_pair(MyRCNN, MyTeacher)
    class MyOutputs(RoIOutputs):
        loss_names = ("semantic_cls",)

    own = ("MODEL.META_ARCHITECTURE", "MyRCNN")
    model = distiller(tiny_cfg, "MODEL.MHKD.STUDENT", "MyRCNN", teacher=own, losses=("SEMANTIC_CLS",))
    assert (type(model.student), type(model.teacher), type(model.outputs)) == (MyRCNN, MyTeacher, MyOutputs)
    with pytest.raises(UserError, match=r"LOSS_WEIGHTS\.LOCAL has no meaning for a MyRCNN student"):
        distiller(tiny_cfg, "MODEL.MHKD.STUDENT", "MyRCNN", teacher=own, losses=("LOCAL",))
    with pytest.raises(ValueError, match="MyRCNN has the pair MyOutputs already"):
        register_pair(MyRCNN, MyTeacher)(MyOutputs)


FITS = {"teacher_mpp": 2.0, "labels": ["Glomerulus"], "input_mpp": 2.0, "class_names": ("Glomerulus",)}
BFA = ("MODEL.MHKD.BFA.ENABLED", True)


@pytest.mark.parametrize("kind", ["demo", "retinanet", "fcos"])
def test_a_teacher_of_these_tiles_fits(tiny_cfg: MakeCfg, kind: str) -> None:
    detector = build_model(tiny_cfg(f"{kind}/teacher"))
    cfg = tiny_cfg(f"{kind}/distill")
    check_teacher(detector, cfg, **FITS)
    check_teacher(detector, cfg, **FITS | {"input_mpp": 2.001})
    check_teacher(detector, cfg, teacher_mpp=2.0, labels=["Glomerulus"])  # a checkpoint that says neither


@pytest.mark.parametrize(
    ("overrides", "changed", "message"),
    [
        ((), {"input_mpp": 0.5}, r"trained at 0.5 um/px, the tiles' teacher images have 2.0"),
        ((), {"class_names": ("A", "B")}, r"classes are A, B, those of the tiles Glomerulus"),
        ((), {"class_names": ("A", "B"), "labels": ["B", "A"]}, r"classes are A, B, those of the tiles B, A"),
        (("MODEL.MHKD.UPSAMPLE", 4), {}, r"up-samples its input by 4, and a teacher's factor is 1"),
        (BFA, {}, r"has a BFA on p3, p4, p5, and a teacher has one on no level"),
        (("INPUT.FORMAT", "BGR"), {}, r"INPUT.FORMAT is BGR, the student's RGB"),
        (("MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0]), {}, r"PIXEL_MEAN is \[1.0, 2.0, 3.0\], the student's \[127.5"),
        (("MODEL.PIXEL_STD", [1.0, 2.0, 3.0]), {}, r"PIXEL_STD is \[1.0, 2.0, 3.0\], the student's \[127.5"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_with_both_values(
    tiny_cfg: MakeCfg, overrides: tuple[object, ...], changed: dict[str, object], message: str
) -> None:
    detector = build_model(tiny_cfg("teacher", *overrides))
    with pytest.raises(UserError, match=message) as caught:
        check_teacher(detector, tiny_cfg("distill"), path="teacher.pth", **FITS | changed)
    assert "teacher.pth" in str(caught.value)


PYRAMID = {f"p{i}": SimpleNamespace(channels=8, stride=2**i) for i in range(2, 7)}


@pytest.mark.parametrize(("ratio", "shift"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_a_factor_of_two_is_one_level(ratio: int, shift: int) -> None:
    assert level_shift(ratio) == shift
    pairs = pair_levels(["p2", "p3", "p4", "p5"], PYRAMID, PYRAMID, ratio)
    assert pairs == {f"p{i}": f"p{i + shift}" for i in range(2, 7 - shift) if i <= 5}


def test_a_finer_level_of_the_teacher_has_four_times_the_channels() -> None:
    assert pair_levels(["p2", "p3"], PYRAMID, PYRAMID, 4, finer=1) == {"p2": "p3", "p3": "p4"}
    settings = mhkd_cfg().MODEL.MHKD
    settings.FEATURE_FINER = 1
    loss = build_pyramid_loss(settings, PYRAMID, PYRAMID, 4)
    assert loss.pairs == {"p2": "p3", "p3": "p4", "p4": "p5", "p5": "p6"}
    assert loss.adapters["p2"].out_channels == 32


@pytest.mark.parametrize("ratio", [0, 3, 6])
def test_other_factors_are_refused(ratio: int) -> None:
    with pytest.raises(UserError, match=f"factor of {ratio}"):
        level_shift(ratio)


def test_levels_can_weigh_differently_or_be_left_out() -> None:
    settings = mhkd_cfg().MODEL.MHKD
    settings.FEATURE_LEVEL_WEIGHTS = [0.5, 0.0, 1.0, 2.0]
    loss = build_pyramid_loss(settings, PYRAMID, PYRAMID, 1)
    assert loss.weights == {"p2": 0.5, "p4": 1.0, "p5": 2.0}


def test_a_batch_knows_both_frames() -> None:
    """Two images of unlike size; the teacher's are 2 and 4 times as large, the second by another factor in height."""
    truth = [Instances(size, gt_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]]))) for size in ((8, 10), (6, 16))]
    for instances in truth:
        instances.gt_classes = torch.tensor([3])
    batch = DistillationBatch(
        images=ImageList(torch.zeros(2, 3, 32, 32), [(8, 10), (6, 16)]),
        ground_truth=truth,
        features={},
        teacher_images=ImageList(torch.zeros(2, 3, 64, 64), [(16, 20), (18, 64)]),
        teacher_pyramid={},
    )
    assert batch.size_hw == (8, 16)
    assert batch.scales == [(2.0, 2.0), (4.0, 3.0)]
    moved = batch.teacher_ground_truth()
    assert [x.image_size for x in moved] == [(16, 20), (18, 64)]
    assert moved[0].gt_boxes.tensor.tolist() == [[2, 4, 6, 8]]
    assert moved[1].gt_boxes.tensor.tolist() == [[4, 6, 12, 12]]
    assert moved[1].gt_classes.tolist() == [3]
    assert truth[0].gt_boxes.tensor.tolist() == [[1, 2, 3, 4]]

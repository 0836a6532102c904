from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.utils.events import EventStorage

from mhkd.losses.dense import quality_focal_loss
from mhkd.modeling.distill_dense import Cut, Predictions, targets_at
from mhkd.modeling.meta_arch import MHKD
from preprocess.base.errors import UserError
from tests.mhkd.modeling.pairs import LOSSES_OF, distiller, pair

MakeCfg = Callable[..., CfgNode]
KINDS = ("retinanet", "fcos")
FLOAT32 = ("MODEL.MHKD.PRECISION", "float32", "SOLVER.WARMUP_SHARE", 0.0)

ONE_LEVEL = ("MODEL.ANCHOR_GENERATOR.SIZES", [[32, 48]])


def dense(tiny_cfg: MakeCfg, kind: str, *overrides: object, **options: Any) -> MHKD:
    return distiller(tiny_cfg, *overrides, kinds=(kind, kind), **options)


def losses_of(model: MHKD, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    with EventStorage(0):
        return model(batch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("align", ["shared", "crosskd"])
@pytest.mark.parametrize(
    ("classes", "overrides"),
    [
        (1, ()),
        (5, ("MODEL.FPN.OUT_CHANNELS", 64)),
        (1, ("MODEL.MHKD.UPSAMPLE", 2)),
        (1, ("MODEL.MHKD.PRECISION", "bfloat16")),
    ],
    ids=["one", "five-other-channels", "shifted", "bf16"],
)
def test_every_loss_and_a_gradient(
    tiny_cfg: MakeCfg, kind: str, align: str, classes: int, overrides: tuple[object, ...]
) -> None:
    model = dense(tiny_cfg, kind, "MODEL.MHKD.ALIGN", align, *overrides, classes=classes)
    losses = losses_of(model, [pair([[2.0, 2, 26, 28]], label=classes - 1), pair([])])
    assert {k for k in losses if "kd" in k} == {f"loss_kd_{name.lower()}" for name in LOSSES_OF[kind]}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    # Distributed training waits for the gradient of every parameter that wants one.
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert losses["loss_kd_semantic_cls"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("align", ["shared", "crosskd"])
def test_an_equal_student_has_nothing_to_learn(tiny_cfg: MakeCfg, kind: str, align: str) -> None:
    """Same weights, same image (s = u = 1): every distillation loss is 0."""
    model = dense(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", 1, "MODEL.MHKD.ALIGN", align, *FLOAT32, s=1)
    model.student.load_state_dict(model.teacher.detector.state_dict(), strict=False)
    losses = losses_of(model, [pair([[30.0, 30, 80, 90]], side=128, s=1)])
    assert {k: round(v.item(), 6) for k, v in losses.items() if "kd" in k} == {
        f"loss_kd_{name.lower()}": 0 for name in LOSSES_OF[kind]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_loss_is_the_sum_over_all_locations(tiny_cfg: MakeCfg, kind: str) -> None:
    """Equal frames, so that nothing is cut and both have the same targets: worked out from the maps themselves."""
    model = dense(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", 1, *FLOAT32, s=1, classes=2)
    batch = [pair([[30.0, 30, 80, 90]], side=128, s=1), pair([], side=128, s=1)]
    seen: dict[str, Any] = {}
    for name, detector in (("student", model.student), ("teacher", model.teacher.detector)):
        detector.head.register_forward_hook(lambda module, inputs, maps, name=name: seen.update({name: maps}))
    found = losses_of(model, batch)["loss_kd_semantic_cls"]
    pairs = zip(seen["student"][0], seen["teacher"][0], strict=True)
    expected = sum(quality_focal_loss(ours, theirs) for ours, theirs in pairs) / model.student.loss_normalizer
    torch.testing.assert_close(found, expected)


def test_fcos_boxes_and_centerness_by_hand(tiny_cfg: MakeCfg) -> None:
    """Heads that say the same at every location: one number a location of the object."""
    model = dense(tiny_cfg, "fcos", "MODEL.MHKD.UPSAMPLE", 1, *FLOAT32, s=1)
    for detector, side, centerness in ((model.student, 1.0, 0.0), (model.teacher.detector, 3.0, math.log(3.0))):
        for layer, value in ((detector.head.bbox_pred, side), (detector.head.ctrness, centerness)):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.constant_(layer.bias, value)
    # On p3 (stride 8) the object of 60 px has 2 x 2 locations within 1.5 strides of its centre. The student says boxes
    # of 16 px there, the teacher of 48 px, which fit better: GIoU of the two is 1/9.
    box = [34.0, 34.0, 94.0, 94.0]
    losses = losses_of(model, [pair([box], side=128, s=1)])
    anchors = model.student.anchor_generator([torch.zeros(1, 1, 16 // 2**i, 16 // 2**i) for i in range(3)])
    gt = pair([box], side=128, s=1)["instances"]
    labels, _ = model.student.label_anchors(anchors, [gt])
    count = int((labels[0] == 0).sum())
    assert count == 4
    normalizer = model.student.loss_normalizer.item()
    assert normalizer == pytest.approx(0.9 * 300 + 0.1 * count)
    assert losses["loss_kd_semantic_box"].item() == pytest.approx(count * (1 - 1 / 9) / normalizer, rel=1e-4)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert losses["loss_kd_semantic_centerness"].item() == pytest.approx(count * divergence / normalizer, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("s", "u"), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 8)])
def test_scales_and_shifts_at_odd_sizes(
    tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch, kind: str, s: int, u: int
) -> None:
    """The anchors that are compared lie on the same spot of the slide, and every loss is finite."""
    model = dense(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", u, *FLOAT32, s=s)
    shift = (s // u).bit_length() - 1
    assert model.outputs.pairs == {f"p{i}": f"p{i + shift}" for i in range(3, 6) if i + shift <= 5}
    seen: list[Predictions] = []
    at = Predictions.at
    monkeypatch.setattr(Predictions, "at", lambda *arguments: seen.append(at(*arguments)) or seen[-1])
    height, width = 264 // s + 1, 200 // s + 1
    batch = [pair([[4.0, 4, 20, 22]], side=(height, width), s=s), pair([], side=(height - 3, width), s=s)]
    losses = losses_of(model, batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    wanted, given = seen
    assert len(given.logits) == len(wanted.logits) > 0
    middles = [((x.anchors[:, :2] + x.anchors[:, 2:]) / 2) / x.factors[:, :2] for x in (given, wanted)]
    torch.testing.assert_close(*middles)


def test_a_location_with_two_targets_teaches_nothing(tiny_cfg: MakeCfg) -> None:
    """u = 1, s = 4: the object is the business of the student's p3 and of the teacher's p3, not of its p5."""
    model = dense(tiny_cfg, "fcos", "MODEL.MHKD.UPSAMPLE", 1, *FLOAT32, s=4)
    losses = losses_of(model, [pair([[16.0, 16, 32, 32]], side=64)])
    assert losses["loss_kd_semantic_box"].item() == 0.0
    assert losses["loss_kd_semantic_centerness"].item() == 0.0
    assert losses["loss_kd_semantic_cls"].item() > 0.0  # of the background
    large = losses_of(model, [pair([[0.0, 0, 60, 60]], side=64)])  # 240 px in the teacher's image: p5's business
    assert large["loss_kd_semantic_centerness"].item() > 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_crosskd_leaves_the_head_of_the_student_alone(tiny_cfg: MakeCfg, kind: str) -> None:
    model = dense(tiny_cfg, kind, "MODEL.MHKD.ALIGN", "crosskd")
    losses_of(model, [pair([[4.0, 4, 20, 22]])])["loss_kd_semantic_cls"].backward()
    assert all(p.grad is None for p in model.student.head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.student.backbone.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_objects_trains_on(tiny_cfg: MakeCfg, kind: str) -> None:
    losses = losses_of(dense(tiny_cfg, kind), [pair([]), pair([])])
    assert losses["loss_kd_semantic_box"].item() == 0.0
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_the_task_losses_are_those_of_the_student_alone(tiny_cfg: MakeCfg) -> None:
    model = dense(tiny_cfg, "retinanet", *FLOAT32)
    batch = [pair([[4.0, 4, 20, 22]])]
    together = losses_of(model, batch)
    model.student.loss_normalizer.zero_()
    with EventStorage(0):
        alone = model.student(batch)
    assert all(torch.equal(together[name], loss) for name, loss in alone.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("overrides", "teacher", "message"),
    [
        (("MODEL.MHKD.ALIGN", "iou"), (), r"ALIGN.*is 'iou'.*shared, crosskd"),
        ((), ("MODEL.RETINANET.NUM_CLASSES", 3, "MODEL.FCOS.NUM_CLASSES", 3), "1 classes, the teacher 3"),
        (
            ("MODEL.MHKD.UPSAMPLE", 1),
            (*("MODEL.RETINANET.IN_FEATURES", ["p3"], "MODEL.FCOS.IN_FEATURES", ["p3"]), *ONE_LEVEL),
            "share none of the levels.*UPSAMPLE",
        ),
    ],
    ids=["iou", "classes", "levels"],
)
def test_what_cannot_be_compared_is_refused(
    tiny_cfg: MakeCfg, kind: str, overrides: tuple[object, ...], teacher: tuple[object, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        dense(tiny_cfg, kind, *overrides, teacher=teacher)


def test_other_anchors_are_refused(tiny_cfg: MakeCfg) -> None:
    other = ("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128]])
    with pytest.raises(UserError, match=r"1 anchors a cell, the teacher 2.*ANCHOR_GENERATOR"):
        dense(tiny_cfg, "retinanet", *other)


CLASSES, ANCHORS, SIZES = 3, 2, [(4, 3), (2, 2)]
DETECTOR: Any = SimpleNamespace(
    num_classes=CLASSES,
    box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
    anchor_generator=DefaultAnchorGenerator(sizes=[[8, 16], [32, 64]], aspect_ratios=[1.0], strides=[8, 16]),
)


def maps(columns: int) -> list[torch.Tensor]:
    """A number for each (level, image, anchor, column, y, x), so that every value says where it comes from."""
    made = []
    for level, (height, width) in enumerate(SIZES):
        axes = [torch.arange(n) for n in (2, ANCHORS, columns, height, width)]
        image, anchor, column, y, x = torch.meshgrid(*axes, indexing="ij")
        value = (((((level * 2 + image) * 10 + anchor) * 10 + column) * 10 + y) * 10 + x).float()
        made.append(value.flatten(1, 2))
    return made


def test_locations_come_level_by_level_and_only_from_the_cells_in_common() -> None:
    cuts = [Cut(1, 1, 2), Cut(0, 2, 1)]
    found = Predictions.at(DETECTOR, [maps(CLASSES), maps(4), maps(1)], cuts, torch.tensor([[1.0] * 4, [2.0] * 4]))
    expected = [
        [(((level * 2 + image) * 10 + anchor) * 10 + column) * 100 + y * 10 + x for column in range(CLASSES)]
        for level, ys, xs in ((1, (0,), (0, 1)), (0, (0, 1), (0,)))
        for image in range(2)
        for y in ys
        for x in xs
        for anchor in range(ANCHORS)
    ]
    assert found.logits.tolist() == expected
    assert found.deltas[:, 0].tolist() == [row[0] for row in expected]
    assert found.centerness is not None
    assert found.centerness.tolist() == [row[0] for row in expected]
    assert found.factors[:, 0].tolist() == [1.0] * 4 + [2.0] * 4 + [1.0] * 4 + [2.0] * 4
    # The last location: level 0 (stride 8), y = 1, x = 0, its second anchor of 16 px around the middle of the cell.
    assert found.anchors[-1].tolist() == [4 - 8, 12 - 8, 4 + 8, 12 + 8]


def test_boxes_are_in_the_frame_of_the_student() -> None:
    flat = Predictions.at(
        DETECTOR, [maps(CLASSES), [0 * m for m in maps(4)]], [Cut(0, 1, 1)], torch.tensor([[2.0] * 4] * 2)
    )
    chosen = torch.tensor([True, False, False, False])
    assert flat.boxes(DETECTOR, chosen).tolist() == [[0, 0, 4, 4]]  # the anchor (0, 0, 8, 8) in pixels twice as large
    assert flat.centerness is None


def test_targets_are_cut_like_the_predictions() -> None:
    cuts = [Cut(1, 1, 2), Cut(0, 2, 1)]
    logits = maps(1)
    everywhere = torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in logits], dim=1)
    found = Predictions.at(DETECTOR, [maps(CLASSES), maps(4), logits], cuts, torch.ones(2, 4))
    assert found.centerness is not None
    assert torch.equal(targets_at(cuts, list(everywhere), [logits], ANCHORS), found.centerness)
    boxes = everywhere[..., None].expand(-1, -1, 4)
    assert torch.equal(targets_at(cuts, list(boxes), [logits], ANCHORS)[:, 3], found.centerness)

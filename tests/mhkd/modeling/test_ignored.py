from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mhkd.modeling.ignored import GroundTruth, label_locations
from tests.mhkd.modeling.pairs import CASCADE, HEADS, LOSSES_OF, distiller, pair

MakeCfg = Callable[..., CfgNode]
KINDS = {"faster": ("demo", ()), "cascade": ("demo", CASCADE), "retinanet": ("retinanet", ()), "fcos": ("fcos", ())}
OBJECT, IGNORED = [0.0, 0.0, 40.0, 40.0], [60.0, 60.0, 120.0, 120.0]
# Half inside the ignored box, a little less, all of it, on the object, on neither.
HALF, LESS, INSIDE, ON_OBJECT, APART = (
    [50.0, 70, 70, 90],
    [49.0, 70, 69, 90],
    [70.0, 70, 90, 90],
    [2.0, 2, 40, 40],
    [0.0, 90, 30, 120],
)


def detector(tiny_cfg: MakeCfg, kind: str, *overrides: object) -> Any:
    torch.manual_seed(0)
    folder, own = KINDS[kind]
    classes = [x for head in HEADS for x in (f"MODEL.{head}.NUM_CLASSES", 1)]
    cfg = tiny_cfg(f"{folder}/teacher", *own, *classes, "MODEL.MHKD.PRECISION", "float32", *overrides)
    return build_model(cfg).train()


def truth(objects: list[list[float]], ignored: list[list[float]]) -> GroundTruth:
    boxes, others = (Boxes(torch.tensor(rows).reshape(-1, 4)) for rows in (objects, ignored))
    return GroundTruth((128, 128), ignored=others, gt_boxes=boxes, gt_classes=torch.zeros(len(objects)).long())


def proposals(*boxes: list[float]) -> Instances:
    scores = torch.zeros(len(boxes))
    return Instances((128, 128), proposal_boxes=Boxes(torch.tensor(boxes)), objectness_logits=scores)


def test_no_anchor_in_an_ignored_box_is_background(tiny_cfg: MakeCfg) -> None:
    rpn = detector(tiny_cfg, "faster", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 4, "MODEL.RPN.POSITIVE_FRACTION", 0.25)
    rpn = rpn.proposal_generator
    anchors = [Boxes(torch.tensor([ON_OBJECT, HALF, LESS, INSIDE, APART]))]
    for model in (rpn, copy.deepcopy(rpn)):
        labels, _ = model.label_and_sample_anchors(anchors, [truth([OBJECT], [IGNORED]), truth([], [])])
        assert labels[0].tolist() == [1, -1, 0, -1, 0]
        assert (labels[1] == 0).sum() == 4  # the sample is full: none was taken and then dropped
    # An object inside an ignored box is an object.
    labels, _ = rpn.label_and_sample_anchors(anchors, [truth([INSIDE], [IGNORED])])
    assert labels[0].tolist()[3] == 1


@pytest.mark.parametrize("kind", ["faster", "cascade"])
@pytest.mark.parametrize(("objects", "expected"), [([OBJECT], [0, 1, 1]), ([], [1, 1, 1])])
def test_no_roi_in_an_ignored_box_is_sampled(
    tiny_cfg: MakeCfg, kind: str, objects: list[list[float]], expected: list[int]
) -> None:
    heads = detector(tiny_cfg, kind).roi_heads
    heads.proposal_append_gt = False
    given = [proposals(ON_OBJECT, HALF, LESS, INSIDE, APART)]
    with EventStorage(0):
        (sampled,) = heads.label_and_sample_proposals(given, [truth(objects, [IGNORED])])
    found = [[*box.tolist(), int(label)] for box, label in zip(sampled.proposal_boxes, sampled.gt_classes, strict=True)]
    wanted = [[*box, label] for box, label in zip((ON_OBJECT, LESS, APART), expected, strict=True)]
    assert sorted(found) == sorted(wanted)


def test_no_later_stage_of_a_cascade_has_one(tiny_cfg: MakeCfg) -> None:
    heads = detector(tiny_cfg, "cascade").roi_heads
    with EventStorage(0):
        (rois,) = heads._match_and_label_boxes(
            [proposals(ON_OBJECT, HALF, LESS, INSIDE, APART)], 2, [truth([OBJECT, INSIDE], [IGNORED])]
        )
    assert rois.proposal_boxes.tensor.tolist() == [ON_OBJECT, LESS, INSIDE, APART]
    assert rois.gt_classes.tolist() == [0, 1, 0, 1]


def test_no_location_of_retinanet_in_one_has_a_label(tiny_cfg: MakeCfg) -> None:
    model = detector(tiny_cfg, "retinanet")
    anchors = [Boxes(torch.tensor([ON_OBJECT, HALF, LESS, INSIDE, APART]))]
    labels, _, left_out = label_locations(model, anchors, [truth([OBJECT], [IGNORED]), truth([INSIDE], [IGNORED])])
    assert labels[0].tolist() == [0, -1, 1, -1, 1]
    assert left_out[0].tolist() == [False, True, False, True, False]
    assert labels[1].tolist()[3] == 0


def test_no_point_of_fcos_in_one_has_a_label(tiny_cfg: MakeCfg) -> None:
    """Cells of 8 px: their centres are 4, 12, 20, ...; the ignored box of 60 to 120 px holds those of 60 to 116."""
    model = detector(tiny_cfg, "fcos")
    anchors = model.anchor_generator([torch.zeros(1, 1, 16 // 2**level, 16 // 2**level) for level in range(3)])
    labels, _, left_out = label_locations(
        model, anchors, [truth([], [IGNORED]), truth([[64.0, 64, 90, 90]], [IGNORED])]
    )
    finest = labels[0][:256].reshape(16, 16)
    assert (finest[7:15, 7:15] == -1).all()
    assert (finest == -1).sum() == 64
    assert (finest == 1).sum() == 256 - 64
    # One more object inside: its points are its own.
    assert ((labels[1] == 0) & left_out[1]).sum() == 0
    assert (labels[1] == 0).sum() > 0


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_what_a_dense_head_says_there_costs_nothing(tiny_cfg: MakeCfg, kind: str) -> None:
    """Every location of the image lies in the ignored box: no loss, and no gradient, whatever the scores are."""
    model = detector(tiny_cfg, kind)
    torch.nn.init.constant_(model.head.cls_score.bias, 3.0)
    batch = pair([], side=128) | {"ignored_boxes": Boxes(torch.tensor([[-200.0, -200, 400, 400]]))}
    with EventStorage(0):
        losses = model([batch])
    assert sum(losses.values()).item() == 0
    sum(losses.values()).backward()
    assert not model.head.cls_score.weight.grad.any()
    with EventStorage(0):
        assert sum(model([pair([], side=128)]).values()).item() > 0


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_ignored_boxes_nothing_changes(tiny_cfg: MakeCfg, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit what Detectron2's own labelling gives, whether there is no key or an empty one."""
    items = [pair([[20.0, 20, 60, 70]], side=128), pair([], side=128)]
    empty = [item | {"ignored_boxes": Boxes(torch.zeros(0, 4))} for item in items]

    def losses(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        model = detector(tiny_cfg, kind)
        torch.manual_seed(1)  # the sampling
        with EventStorage(0):
            found = model(batch)
        sum(found.values()).backward()
        return found | {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}

    found = [losses(items), losses(empty)]
    monkeypatch.setattr("mhkd.modeling.detectors.leave_ignored_out", lambda _: None)
    monkeypatch.setattr("mhkd.modeling.detectors.weigh_boxes", lambda _: None)
    if kind in {"retinanet", "fcos"}:
        monkeypatch.setattr(
            "mhkd.modeling.detectors_dense.label_locations",
            lambda model, anchors, truth: (*model.label_anchors(anchors, truth), []),
        )
        monkeypatch.delattr("mhkd.modeling.detectors_dense.UpsampledFCOS.losses")
    found.append(losses(items))
    for other in found[:2]:
        assert other.keys() == found[2].keys()
        assert [name for name, value in other.items() if not torch.equal(value, found[2][name])] == []


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("align", ["shared", "crosskd"])
def test_a_distiller_leaves_out_what_lies_there_in_both_frames(tiny_cfg: MakeCfg, kind: str, align: str) -> None:
    """All of both images is ignored: of the background nothing is learnt, of an object everything."""
    folder, own = KINDS[kind]
    cascade = {"teacher": own, "trainable": ("roi_heads",)} if folder == "demo" else {}
    model = distiller(
        tiny_cfg, *own, "MODEL.MHKD.ALIGN", align, "MODEL.MHKD.PRECISION", "float32", kinds=(folder, folder), **cascade
    )
    whole = Boxes(torch.tensor([[-100.0, -100, 200, 200]]))
    everything = [pair([]) | {"ignored_boxes": whole}, pair([]) | {"ignored_boxes": whole}]
    with EventStorage(0):
        losses = model(everything)
    assert {name for name, loss in losses.items() if loss.item() != 0} == {"loss_kd_feature"}
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with EventStorage(0):
        losses = model([pair([[2.0, 2, 26, 28]]) | {"ignored_boxes": whole}, everything[0]])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_kd_semantic_cls"].item() > 0
    assert {name for name in losses if "kd" in name} >= {f"loss_kd_{name.lower()}" for name in LOSSES_OF[folder]}


def test_the_frames_of_ignored_boxes(tiny_cfg: MakeCfg) -> None:
    """Up-sampled by u = 4; and the input stays as it was."""
    student = distiller(tiny_cfg).student
    item = pair([[4.0, 4, 20, 22]]) | {"ignored_boxes": Boxes(torch.tensor([[1.0, 2, 3, 4]]))}
    (truth,) = student.upsampled_ground_truth([item])
    assert truth.image_size == (128, 128)
    assert truth.ignored.tensor.tolist() == [[4, 8, 12, 16]]
    assert truth.gt_boxes.tensor.tolist() == [[16, 16, 80, 88]]
    assert item["ignored_boxes"].tensor.tolist() == [[1, 2, 3, 4]]
    assert len(truth) == 1


def test_cells_of_an_ignored_box_are_no_foreground(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "MODEL.MHKD.FEATURE_FOREGROUND", True, losses=("FEATURE",))
    item = pair([]) | {"ignored_boxes": Boxes(torch.tensor([[4.0, 4, 20, 22]]))}
    with EventStorage(0):
        assert model([item])["loss_kd_feature"].item() == 0
        assert model([pair([[4.0, 4, 20, 22]])])["loss_kd_feature"].item() > 0

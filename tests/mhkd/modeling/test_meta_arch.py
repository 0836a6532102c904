from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.utils.events import EventStorage
from torch.nn import functional

from mhkd.deploy.detector_file import load_detector
from mhkd.modeling.detectors import UpsampledRCNN
from preprocess.base.errors import UserError
from tests.mhkd.modeling.pairs import ALL, CASCADE, distiller, pair

MakeCfg = Callable[..., CfgNode]
RESNET = (
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
)
DEEP = (*RESNET, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
TASK = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ((), {"classes": 1}),
        ((), {"classes": 5}),
        (("MODEL.MHKD.ALIGN", "iou"), {}),
        (("MODEL.MHKD.ALIGN", "crosskd"), {}),
        (CASCADE, {"teacher": CASCADE}),
        ((*CASCADE, "MODEL.MHKD.ALIGN", "iou"), {"teacher": CASCADE, "classes": 5}),
        (("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.MHKD.ALIGN", "crosskd"), {}),
        (("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.MHKD.FEATURE_LOSS", "fgd"), {}),
        (("MODEL.TIMM.NAME", "resnet18", "MODEL.MHKD.FEATURE_LOSS", "mgd"), {}),
        ((*RESNET, "MODEL.RESNETS.DEPTH", 34), {"teacher": (*RESNET, "MODEL.RESNETS.DEPTH", 18)}),
        ((*DEEP, "MODEL.RESNETS.DEPTH", 50), {"teacher": (*DEEP, "MODEL.RESNETS.DEPTH", 101)}),
        (("MODEL.MHKD.FEATURE_LOSS", "cwd", "MODEL.MHKD.FEATURE_FOREGROUND", True), {"classes": 5}),
    ],
    ids=lambda value: "-".join(str(x).rpartition(".")[2] for x in value) or "default",
)
def test_every_phase_gives_its_own_losses_and_a_gradient(
    tiny_cfg: MakeCfg, overrides: tuple[object, ...], options: dict[str, Any]
) -> None:
    model = distiller(tiny_cfg, *overrides, **options)
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]], label=options.get("classes", 1) - 1), pair([])])
    assert {k for k in losses if "kd" in k} == {f"loss_kd_{name.lower()}" for name in ALL}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    # Distributed training waits for the gradient of every parameter that wants one.
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert any(p.grad.abs().sum() > 0 for p in model.student.backbone.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "losses",
    [(), ("FEATURE",), ("LOCAL",), ("SEMANTIC_CLS",), ("SEMANTIC_BOX",), ("LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX")],
    ids="-".join,
)
def test_a_loss_is_there_by_its_weight_beside_those_of_the_task(tiny_cfg: MakeCfg, losses: tuple[str, ...]) -> None:
    found = []
    for weight in (1.0, 3.0):
        weights = [x for name in losses for x in (f"MODEL.MHKD.LOSS_WEIGHTS.{name}", weight)]
        model = distiller(tiny_cfg, *weights, "SOLVER.WARMUP_SHARE", 0.0, losses=losses)
        asked: list[bool] = []
        model.teacher.detector.backbone.register_forward_pre_hook(lambda *_, asked=asked: asked.append(True))
        torch.manual_seed(1)
        with EventStorage(0):
            found.append(model([pair([[4.0, 4, 20, 22]]), pair([])]))
        assert len(asked) == bool(losses)
    once, thrice = found
    assert set(once) == TASK | {f"loss_kd_{name.lower()}" for name in losses}
    for name in once:
        assert thrice[name].item() == pytest.approx(once[name].item() * (3 if "kd" in name else 1), rel=1e-4), name


def test_every_network_runs_once_a_batch(tiny_cfg: MakeCfg) -> None:
    """All losses: one pyramid of each image, one pooling on each side, whatever reads them."""
    model = distiller(tiny_cfg)
    calls: list[str] = []
    for side, detector in (("student", model.student), ("teacher", model.teacher.detector)):
        for name, part in (("backbone", detector.backbone), ("pooler", detector.roi_heads.box_pooler)):
            part.register_forward_hook(lambda *_, name=f"{side} {name}": calls.append(name))
    with EventStorage(0):
        model([pair([[4.0, 4, 20, 22]]), pair([])])
    assert sorted(calls) == ["student backbone", "student pooler", "teacher backbone", "teacher pooler"]


def test_the_halves_of_the_local_loss_are_objects_and_background(
    tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "mhkd.modeling.distill_roi.local_loss", lambda ours, theirs, which: seen.append(which) or ours.sum()
    )
    for classes, label, boxes in ((1, 0, [[4.0, 4, 20, 22]]), (5, 4, [[4.0, 4, 20, 22]]), (1, 0, [])):
        with EventStorage(0):
            distiller(tiny_cfg, classes=classes)([pair(boxes, label=label)])
        assert 0 < (~seen[-1]).sum() <= len(seen[-1])
        assert bool(seen[-1].any()) == bool(boxes)


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (("MODEL.MHKD.TEMPERATURE", 4.0), {"loss_kd_semantic_cls", "loss_kd_reverse"}),
        (("MODEL.MHKD.TEACHER.REVERSE_KL", 5.0), {"loss_kd_reverse"}),
        (("MODEL.MHKD.FEATURE_FOREGROUND", True), {"loss_kd_feature"}),
        (("MODEL.MHKD.CWD_TEMPERATURE", 3.0), {"loss_kd_feature"}),
        (("MODEL.MHKD.FEATURE_LEVEL_WEIGHTS", [0.0, 1.0, 2.0]), {"loss_kd_feature"}),
        (("MODEL.MHKD.ALIGN", "crosskd"), {"loss_kd_semantic_cls", "loss_kd_semantic_box"}),
        (("MODEL.MHKD.ALIGN", "iou"), {"loss_kd_semantic_cls", "loss_kd_semantic_box", "loss_kd_reverse"}),
    ],
    ids=lambda value: str(value[0]).rpartition(".")[2] if isinstance(value, tuple) else "",
)
def test_a_switch_changes_its_own_loss(tiny_cfg: MakeCfg, overrides: tuple[object, ...], changed: set[str]) -> None:
    batch, found = [pair([[4.0, 4, 20, 22]]), pair([])], []
    for settings in ((), overrides):
        cwd = ("MODEL.MHKD.FEATURE_LOSS", "cwd", "MODEL.MHKD.PRECISION", "float32")
        model = distiller(tiny_cfg, *cwd, *settings, trainable=("roi_heads",))
        torch.manual_seed(1)  # the sampling of RoIs
        with EventStorage(0):
            found.append({name: loss.item() for name, loss in model(batch).items()})
    before, after = found
    assert {name for name in before if after[name] != pytest.approx(before[name], rel=1e-5)} == changed


def test_of_several_classes_every_score_teaches_and_the_deltas_of_the_objects_own_class_alone(
    tiny_cfg: MakeCfg,
) -> None:
    model = distiller(tiny_cfg, classes=4)
    predictor = model.teacher.detector.roi_heads.box_predictor
    batch = [pair([[4.0, 4, 20, 22]], label=2)]

    def losses(kind: str) -> float:
        torch.manual_seed(1)
        with EventStorage(0), torch.no_grad():
            return float(model(batch)[f"loss_kd_semantic_{kind}"])

    scores, boxes = losses("cls"), losses("box")
    assert (losses("cls"), losses("box")) == (scores, boxes)
    for label in range(5):
        with torch.no_grad():
            predictor.cls_score.bias[label] += 1
        assert losses("cls") != pytest.approx(scores), label
        with torch.no_grad():
            predictor.cls_score.bias[label] -= 1
    for label in range(4):
        with torch.no_grad():
            predictor.bbox_pred.bias[4 * label : 4 * label + 4] += 0.01
        assert (losses("box") != pytest.approx(boxes, rel=1e-9)) == (label == 2), label
        with torch.no_grad():
            predictor.bbox_pred.bias[4 * label : 4 * label + 4] -= 0.01


def test_crosskd_leaves_the_box_branch_of_the_student_alone(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "MODEL.MHKD.ALIGN", "crosskd", trainable=("roi_heads",))
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]])])
    losses["loss_kd_semantic_cls"].backward()
    assert all(p.grad is None for p in model.student.roi_heads.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.student.backbone.parameters())


@pytest.mark.parametrize("kind", [(), CASCADE], ids=["faster", "cascade"])
@pytest.mark.parametrize("align", ["shared", "iou"])
def test_a_trainable_teacher_learns_with_its_box_branch_only(
    tiny_cfg: MakeCfg, align: str, kind: tuple[object, ...]
) -> None:
    model = distiller(tiny_cfg, "MODEL.MHKD.ALIGN", align, *kind, teacher=kind, trainable=("roi_heads",))
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]]), pair([])])
    assert "loss_kd_reverse" in losses
    assert len([name for name in losses if name.startswith("loss_teacher_")]) == (6 if kind else 2)
    sum(losses.values()).backward()
    learning = {name for name, p in model.teacher.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning
    assert all(
        name.startswith(("detector.roi_heads.box_head", "detector.roi_heads.box_predictor")) for name in learning
    )
    assert not any(module.training for module in model.teacher.modules())


def test_stages_of_a_cascade(tiny_cfg: MakeCfg) -> None:
    assert distiller(tiny_cfg, *CASCADE, teacher=CASCADE).outputs.stage_pairs == [(0, 0), (1, 1), (2, 2)]
    last = distiller(tiny_cfg, *CASCADE, "MODEL.MHKD.STAGES", "last", teacher=CASCADE)
    assert last.outputs.stage_pairs == [(2, 2)]
    # The last stage of a cascade scales its deltas unlike Faster R-CNN: scores and features only.
    mixed = distiller(tiny_cfg, *CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", [[10.0, 10.0, 5.0, 5.0]] * 3)
    assert mixed.outputs.stage_pairs == [(2, 0)]
    with EventStorage(0):
        assert mixed([pair([[4.0, 4, 20, 22]])])["loss_kd_semantic_cls"].item() >= 0


@pytest.mark.parametrize(
    ("loss", "align"), [("pkd", "shared"), ("mse", "crosskd"), ("cwd", "shared"), ("fgd", "crosskd")]
)
def test_an_equal_student_has_nothing_to_learn(tiny_cfg: MakeCfg, loss: str, align: str) -> None:
    """Same weights, same image (s = u = 1): every distillation loss is 0, and is not with other weights."""
    overrides = ("MODEL.MHKD.UPSAMPLE", 1, "MODEL.MHKD.FEATURE_LOSS", loss, "MODEL.MHKD.ALIGN", align)
    if loss == "fgd":  # its published weights are made for larger sums
        overrides = (*overrides, "MODEL.MHKD.LOSS_WEIGHTS.FEATURE", 100.0)
    model = distiller(tiny_cfg, *overrides, "MODEL.MHKD.PRECISION", "float32", "SOLVER.WARMUP_SHARE", 0.0, s=1)
    for detector in (model.student, model.teacher.detector):  # fresh ones say about the same whatever they see
        for layer in (detector.roi_heads.box_predictor.cls_score, detector.roi_heads.box_predictor.bbox_pred):
            torch.nn.init.normal_(layer.weight, std=0.5)
    losses = []
    for equal in (False, True):
        if equal:
            model.student.load_state_dict(model.teacher.detector.state_dict(), strict=False)
        torch.manual_seed(1)
        with EventStorage(0):
            found = model([pair([[30.0, 30, 80, 90]], side=128, s=1)])
        losses.append({k.removeprefix("loss_kd_"): v.item() for k, v in found.items() if "kd" in k})
    assert losses[0].keys() == losses[1].keys() == {name.lower() for name in ALL}
    assert min(losses[0].values()) > 1e-4
    assert max(losses[1].values()) < 1e-6


@pytest.mark.parametrize(("s", "u"), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 2), (8, 8)])
def test_scales_and_shifts_at_odd_sizes(tiny_cfg: MakeCfg, s: int, u: int) -> None:
    """f_H and f_L, f_HL and f_LL have equal shapes; the boxes that f_HL is pooled on cover the same region."""
    levels = ["p2", "p3", "p4", "p5"]
    overrides = ("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.MHKD.FEATURE_LEVELS", levels)
    anchors = ("MODEL.RPN.IN_FEATURES", levels, "MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [96]])
    both = (*overrides, *anchors, "MODEL.ROI_HEADS.IN_FEATURES", levels, "MODEL.MHKD.PRECISION", "float32")
    model = distiller(tiny_cfg, *both, "MODEL.MHKD.UPSAMPLE", u, s=s, teacher=both)
    shift = (s // u).bit_length() - 1
    assert model.pyramid_loss is not None
    assert model.pyramid_loss.pairs == {f"p{i}": f"p{i + shift}" for i in range(2, 6) if i + shift <= 6}
    seen: dict[str, torch.Size] = {}
    for level, loss in model.pyramid_loss.losses.items():
        loss.register_forward_hook(lambda module, inputs, output, level=level: seen.update({level: inputs[0].shape}))
    pooled: dict[str, tuple[list[Any], torch.Size]] = {}
    for name, detector in (("student", model.student), ("teacher", model.teacher.detector)):
        detector.roi_heads.box_pooler.register_forward_hook(
            lambda module, inputs, output, name=name: pooled.update({name: (inputs[1], output.shape)})
        )
    height, width = (264 // s + 1, 200 // s + 1)
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]], side=(height, width), s=s), pair([], side=(height - 3, width), s=s)])
    assert seen["p2"][-2:] == (-(-height * u // 4), -(-width * u // 4))
    (student_boxes, student_shape), (teacher_boxes, teacher_shape) = pooled["student"], pooled["teacher"]
    assert student_shape == teacher_shape
    assert all(torch.equal(b.tensor * (s // u), a.tensor) for a, b in zip(teacher_boxes, student_boxes, strict=True))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_native_student_imitates_coarser_levels_of_a_teacher_with_other_channels(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "MODEL.FPN.OUT_CHANNELS", 64, kinds=("native", "demo"), losses=ALL)
    assert model.pyramid_loss is not None
    assert model.pyramid_loss.pairs == {"p2": "p4", "p3": "p5"}
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]], side=64)])
    assert {"loss_kd_feature", "loss_kd_local", "loss_kd_semantic_cls", "loss_kd_semantic_box"} < set(losses)
    sum(losses.values()).backward()
    assert model.student.backbone.fpn_output2.weight.grad.abs().max() > 0
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_batch_without_objects_trains_on(tiny_cfg: MakeCfg) -> None:
    """No RoI is foreground then; the box loss once failed to reshape nothing."""
    model = distiller(tiny_cfg)
    with EventStorage(0):
        losses = model([pair([]), pair([])])
    assert losses["loss_kd_semantic_box"].item() == 0.0
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_smaller_input_is_aligned_by_shifting_the_pyramid(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "MODEL.MHKD.UPSAMPLE", 2)
    assert model.pyramid_loss is not None
    assert model.pyramid_loss.pairs == {"p3": "p4", "p4": "p5", "p5": "p6"}
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]], side=64)])
    assert losses["loss_kd_feature"].item() > 0


def test_the_ramp_comes_from_the_iteration(tiny_cfg: MakeCfg) -> None:
    """The same batch at four iterations of a run of 30 with a warm-up of 3: a quarter, a half, all, all of it."""
    model = distiller(tiny_cfg, "SOLVER.MAX_ITER", 30, "MODEL.MHKD.PRECISION", "float32")
    batch, found = [pair([[4.0, 4, 20, 22]])], []
    for iteration in (0, 1, 3, 9):
        torch.manual_seed(1)
        with EventStorage(iteration), torch.no_grad():
            found.append(model(batch)["loss_kd_local"].item())
    assert [value / found[-1] for value in found] == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_the_teacher_stays_in_evaluation_mode(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg)
    assert model.student.training
    assert not any(module.training for module in model.teacher.modules())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.MHKD.FEATURE_LOSS", "l7"), "FEATURE_LOSS is 'l7'"),
        (("MODEL.MHKD.FEATURE_LEVELS", ["p9"]), "share none of the levels p9"),
        (("MODEL.MHKD.FEATURE_LEVEL_WEIGHTS", [1.0]), "1 entries for 3 FEATURE_LEVELS"),
        (("MODEL.MHKD.ALIGN", "nearest"), r"ALIGN is 'nearest'.*shared, crosskd, iou"),
        (("MODEL.MHKD.STAGES", "first"), r"STAGES is 'first'.*all, last"),
        (("MODEL.MHKD.LOSS_WEIGHTS.LOCAL", -1.0), "weight of local is negative"),
        (("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0)), "scale their box deltas differently"),
        (("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True), "USE_SIGMOID_CE"),
    ],
)
def test_what_cannot_be_distilled_is_refused(tiny_cfg: MakeCfg, overrides: tuple[object, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distiller(tiny_cfg, *overrides)


def test_outputs_of_different_classes_are_not_compared(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match="the student has 1 classes, the teacher 3"):
        distiller(tiny_cfg, teacher=("MODEL.ROI_HEADS.NUM_CLASSES", 3))


@pytest.mark.parametrize("u", [1, 2, 4, 8])
def test_student_boxes_are_in_the_frame_of_the_given_image(tiny_cfg: MakeCfg, u: int) -> None:
    """Up-sampling is the detector's own business: ground truth goes in, and boxes come out, in given pixels.

    Detectron2's own detector on the image made larger beforehand finds the same, in that larger frame.
    """
    overrides = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.MHKD.PRECISION", "float32", "MODEL.MHKD.UPSAMPLE")
    student = UpsampledRCNN(tiny_cfg("distill", *overrides, u)).eval()
    native = GeneralizedRCNN(tiny_cfg("distill", *overrides, 1)).eval()
    native.load_state_dict(student.state_dict())
    item = pair([[4.0, 6, 20, 22]], side=(33, 45))
    scaled = student.upsampled_ground_truth([item])[0]
    assert scaled.image_size == (33 * u, 45 * u)
    assert scaled.gt_boxes.tensor.tolist() == [[4 * u, 6 * u, 20 * u, 22 * u]]
    assert item["instances"].gt_boxes.tensor.tolist() == [[4, 6, 20, 22]]
    larger = functional.interpolate(item["image"][None].float(), scale_factor=u, mode="bilinear")[0]
    with torch.no_grad():
        found, expected = student([item])[0]["instances"], native([{"image": larger}])[0]["instances"]
    assert found.image_size == (33, 45)
    assert len(found) > 0
    torch.testing.assert_close(found.scores, expected.scores)
    # An untrained network's scores are nearly equal: which of two comes first, or survives, is a matter of rounding.
    distances = torch.cdist(found.pred_boxes.tensor * u, expected.pred_boxes.tensor, p=torch.inf)
    assert (distances.amin(dim=1) < 1e-2).float().mean() > 0.95


def test_pictures_of_the_features_at_their_period(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "VIS_PERIOD", 2)
    for iteration, expected in ((1, 0), (2, 3)):
        with EventStorage(iteration) as storage:
            model([pair([[4.0, 4, 20, 22]])])
        names = [name for name, _, _ in storage._vis_data]
        assert len(names) == expected
    assert names[0] == "features/p3: f_H, f_L, f_L'"


def test_detectron2_builds_the_distiller_from_its_keys_alone(tiny_cfg: MakeCfg, teacher: Path) -> None:
    given = ("MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), "MODEL.ROI_HEADS.NUM_CLASSES", 1, "MODEL.MHKD.SCALE_FACTOR", 4)
    model = build_model(tiny_cfg("distill", *given)).train()
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]])])
    assert set(losses) == TASK | {"loss_kd_feature"}
    expected = load_detector(teacher).model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.teacher.detector.state_dict().items())
    with pytest.raises(UserError, match=r"SCALE_FACTOR is 0"):
        build_model(tiny_cfg("distill", *given[:4]))
    with pytest.raises(UserError, match="UPSAMPLE 4 does not divide the scale factor 6"):
        build_model(tiny_cfg("distill", *given[:5], 6))

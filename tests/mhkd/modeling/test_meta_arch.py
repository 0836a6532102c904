from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from mhkd.modeling.student import UpsampledRCNN
from preprocess.errors import UserError
from tests.mhkd.modeling.pairs import ALL, CASCADE, distiller, pair

MakeCfg = Callable[..., CfgNode]
RESNET = (
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
)


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


@pytest.mark.parametrize("loss", ["pkd", "mse", "cwd", "fgd"])
def test_an_equal_student_has_nothing_to_learn(tiny_cfg: MakeCfg, loss: str) -> None:
    """Same weights, same image (s = u = 1): every distillation loss is 0."""
    model = distiller(
        tiny_cfg, "MODEL.MHKD.UPSAMPLE", 1, "MODEL.MHKD.FEATURE_LOSS", loss, "MODEL.MHKD.BF16", "off", s=1
    )
    model.student.load_state_dict(model.teacher.detector.state_dict(), strict=False)
    with EventStorage(0):
        losses = model([pair([[30.0, 30, 80, 90]], side=128, s=1)])
    assert {k: round(v.item(), 5) for k, v in losses.items() if "kd" in k} == {f"loss_kd_{n.lower()}": 0 for n in ALL}


@pytest.mark.parametrize(("s", "u"), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 2), (8, 8)])
def test_scales_and_shifts_at_odd_sizes(tiny_cfg: MakeCfg, s: int, u: int) -> None:
    """f_H and f_L, f_HL and f_LL have equal shapes; the boxes that f_HL is pooled on cover the same region."""
    levels = ["p2", "p3", "p4", "p5"]
    overrides = ("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.MHKD.FEATURE_LEVELS", levels)
    anchors = ("MODEL.RPN.IN_FEATURES", levels, "MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [96]])
    both = (*overrides, *anchors, "MODEL.ROI_HEADS.IN_FEATURES", levels, "MODEL.MHKD.BF16", "off")
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
    model = distiller(tiny_cfg, "SOLVER.WARMUP_ITERS", 3)
    shares = []
    for iteration in (0, 1, 3, 9):
        with EventStorage(iteration):
            shares.append(model.distillation_ramp())
    assert shares == [0.25, 0.5, 1.0, 1.0]


def test_the_teacher_stays_in_evaluation_mode(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg)
    assert model.student.training
    assert not any(module.training for module in model.teacher.modules())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.MHKD.FEATURE_LOSS", "l7"), "unknown feature loss 'l7'"),
        (("MODEL.MHKD.FEATURE_LEVELS", ["p9"]), "share none of the levels p9"),
        (("MODEL.MHKD.FEATURE_LEVEL_WEIGHTS", [1.0]), "1 entries for 3 FEATURE_LEVELS"),
        (("MODEL.MHKD.ALIGN", "nearest"), r"ALIGN is 'nearest'.*shared, iou, crosskd"),
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
    """Up-sampling is the detector's own business: ground truth goes in, and boxes come out, in given pixels."""
    overrides = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.MHKD.UPSAMPLE", u)
    student = UpsampledRCNN(tiny_cfg("step1", *overrides)).eval()
    item = pair([[4.0, 6, 20, 22]], side=(33, 45))
    scaled = student.upsampled_ground_truth([item])[0]
    assert scaled.image_size == (33 * u, 45 * u)
    assert scaled.gt_boxes.tensor.tolist() == [[4 * u, 6 * u, 20 * u, 22 * u]]
    assert item["instances"].gt_boxes.tensor.tolist() == [[4, 6, 20, 22]]
    with torch.no_grad():
        (output,) = student([item])
    assert output["instances"].image_size == (33, 45)
    boxes = output["instances"].pred_boxes.tensor
    assert len(boxes) > 0
    assert (boxes[:, 2].max().item(), boxes[:, 3].max().item()) <= (45, 33)


def test_pictures_of_the_features_at_their_period(tiny_cfg: MakeCfg) -> None:
    model = distiller(tiny_cfg, "VIS_PERIOD", 2)
    for iteration, expected in ((1, 0), (2, 3)):
        with EventStorage(iteration) as storage:
            model([pair([[4.0, 4, 20, 22]])])
        names = [name for name, _, _ in storage._vis_data]
        assert len(names) == expected
    assert names[0] == "features/p3: f_H, f_L, f_L'"

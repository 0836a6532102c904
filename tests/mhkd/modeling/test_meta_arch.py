from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mhkd.modeling.meta_arch import MHKD
from mhkd.modeling.student import UpsampledRCNN
from mhkd.modeling.teacher import Teacher
from preprocess.errors import UserError

MakeCfg = Callable[..., CfgNode]
ALL = ("FEATURE", "LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX")


def distiller(tiny_cfg: MakeCfg, *overrides: object, classes: int = 1) -> MHKD:
    torch.manual_seed(0)
    weights = [x for name in ALL for x in (f"MODEL.MHKD.LOSS_WEIGHTS.{name}", 1.0)]
    cfg = tiny_cfg("step3", "MODEL.ROI_HEADS.NUM_CLASSES", classes, *weights, *overrides)
    teacher_cfg = tiny_cfg("teacher", "MODEL.ROI_HEADS.NUM_CLASSES", classes)
    return MHKD(cfg, teacher=Teacher(build_model(teacher_cfg)), scale_ratio=4 // cfg.MODEL.MHKD.UPSAMPLE).train()


def pair(boxes: list[list[float]], side: int = 32) -> dict[str, object]:
    instances = Instances((side, side), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.long)
    image = torch.randint(0, 255, (3, side, side), dtype=torch.uint8)
    teacher_image = image.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return {"image": image, "teacher_image": teacher_image, "instances": instances, "height": side, "width": side}


@pytest.mark.parametrize("classes", [1, 5])
def test_every_phase_gives_its_own_losses_and_a_gradient(tiny_cfg: MakeCfg, classes: int) -> None:
    model = distiller(tiny_cfg, classes=classes)
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]]), pair([])])
    assert {k for k in losses if "kd" in k} == {f"loss_kd_{name.lower()}" for name in ALL}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.student.backbone.parameters())


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


def test_student_boxes_are_in_the_frame_of_the_given_image(tiny_cfg: MakeCfg) -> None:
    """Up-sampling is the detector's own business: ground truth goes in, and boxes come out, in given pixels."""
    student = UpsampledRCNN(tiny_cfg("step1", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)).eval()
    assert student.upsample == 4
    item = pair([[4.0, 6, 20, 22]])
    scaled = student.upsampled_ground_truth([item])[0]
    assert scaled.image_size == (128, 128)
    assert scaled.gt_boxes.tensor.tolist() == [[16, 24, 80, 88]]
    assert item["instances"].gt_boxes.tensor.tolist() == [[4, 6, 20, 22]]
    with torch.no_grad():
        (output,) = student([item])
    assert output["instances"].image_size == (32, 32)
    assert len(output["instances"]) > 0
    assert output["instances"].pred_boxes.tensor.max().item() <= 32

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.utils.events import EventStorage
from torch.nn import functional

from mhkd.deploy.detector_file import load_detector
from mhkd.engine.train import run_training
from mhkd.engine.trainer import Trainer
from mhkd.modeling.detectors_dense import UpsampledDense, UpsampledFCOS, UpsampledRetinaNet
from preprocess.base.errors import UserError
from tests.mhkd.engine.runs import Stop, weights_of
from tests.mhkd.modeling.pairs import pair

MakeCfg = Callable[..., CfgNode]
KINDS = ("retinanet", "fcos")
EVERY_SCORE = ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "MODEL.FCOS.SCORE_THRESH_TEST", 0.0)
ORIGINALS = {"retinanet": (UpsampledRetinaNet, RetinaNet), "fcos": (UpsampledFCOS, FCOS)}


def detector(tiny_cfg: MakeCfg, kind: str, *overrides: object) -> UpsampledDense:
    torch.manual_seed(0)
    return build_model(tiny_cfg(f"{kind}/baseline_strict", *EVERY_SCORE, "MODEL.MHKD.PRECISION", "float32", *overrides))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("u", [1, 2, 4])
@pytest.mark.parametrize("side", [(33, 45), (64, 40)])
def test_boxes_are_in_the_frame_of_the_given_image(tiny_cfg: MakeCfg, kind: str, u: int, side: tuple[int, int]) -> None:
    """A native detector on the image made larger beforehand finds the same, in that larger frame."""
    model, native = (detector(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", factor).eval() for factor in (u, 1))
    image = pair([], side=side)["image"]
    larger = functional.interpolate(image[None].float(), scale_factor=u, mode="bilinear")[0]
    with torch.no_grad():
        found, expected = (m([{"image": pixels}])[0]["instances"] for m, pixels in ((model, image), (native, larger)))
    assert found.image_size == side
    assert len(found) > 0
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.pred_boxes.tensor * u, expected.pred_boxes.tensor, rtol=0, atol=1e-2)
    height, width = side
    corners = found.pred_boxes.tensor[:, 2:].amax(dim=0).tolist()
    assert (corners[0] <= width, corners[1] <= height) == (True, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 5])
def test_without_up_sampling_it_is_detectron2s_detector(tiny_cfg: MakeCfg, kind: str, classes: int) -> None:
    """The same losses, the same running mean, the same detections."""
    counts = ("MODEL.RETINANET.NUM_CLASSES", classes, "MODEL.FCOS.NUM_CLASSES", classes)
    ours = detector(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", 1, *counts)
    mine, original = ORIGINALS[kind]
    assert type(ours) is mine
    theirs = detector(tiny_cfg, kind, "MODEL.MHKD.UPSAMPLE", 1, *counts)
    theirs.load_state_dict(ours.state_dict())
    # Detectron2's own code on the same modules.
    del theirs._buffers["loss_normalizer"], theirs.bfa
    theirs.__class__ = original
    for boxes in ([[30.0, 30, 100, 90]], [], [[10.0, 10, 40, 44], [60.0, 60, 120, 120]]):
        batch = [pair(boxes, side=128, s=1, label=classes - 1)]
        with EventStorage(0):
            expected, found = theirs(batch), ours(batch)
        assert expected.keys() == found.keys()
        for name, loss in expected.items():
            torch.testing.assert_close(found[name], loss, rtol=1e-5, atol=1e-6)
        assert ours.loss_normalizer.item() == pytest.approx(theirs.loss_normalizer)
    with torch.no_grad():
        expected, found = (m.eval()(batch)[0]["instances"] for m in (theirs, ours))
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_running_mean_is_part_of_the_weights(tiny_cfg: MakeCfg, kind: str) -> None:
    model, other = detector(tiny_cfg, kind), detector(tiny_cfg, kind)
    for _ in range(2):
        with EventStorage(0):
            model([pair([[4.0, 4, 20, 22]])])
    assert model.loss_normalizer > 0
    other.load_state_dict(model.state_dict())
    losses = []
    for each in (model, other):
        with EventStorage(0):
            losses.append(each([pair([[4.0, 4, 20, 22]], side=48) | {"image": torch.full((3, 48, 48), 90)}]))
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_losses_are_float32_under_bfloat16(tiny_cfg: MakeCfg, kind: str) -> None:
    model = detector(tiny_cfg, kind, "MODEL.MHKD.PRECISION", "bfloat16")
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]])])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    with torch.no_grad():
        scores = model.eval()([pair([])])[0]["instances"].scores
    assert scores.dtype == torch.float32
    assert len(torch.unique(scores)) > 0.5 * len(scores)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_that_are_no_numbers_are_a_divergence(tiny_cfg: MakeCfg, kind: str) -> None:
    model = detector(tiny_cfg, kind)
    torch.nn.init.constant_(model.head.bbox_pred.bias, float("nan"))
    with EventStorage(0):
        try:
            losses = model([pair([[4.0, 4, 20, 22]])])
        except FloatingPointError:
            return
    assert not torch.isfinite(sum(losses.values()))  # Detectron2's trainer turns that into the same error


@pytest.mark.parametrize("kind", KINDS)
def test_training_from_teacher_to_final_student(
    tiny_cfg: MakeCfg, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole line: teacher, step 1, step 3; exported by itself, resumed to the bit."""
    teacher = run_training(tiny_cfg(f"{kind}/teacher", "SOLVER.MAX_ITER", 2))

    def distil(folder: str, until_step: int | None = None) -> Path:
        named = ("MODEL.WEIGHTS", str(teacher), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher))
        where = ("OUTPUT_DIR", str(tmp_path / folder))
        return run_training(tiny_cfg(f"{kind}/distill", *named, *EVERY_SCORE, *where), until_step)

    trained = []
    export = Trainer.detector_to_export
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "detector_to_export", lambda self: trained.append(export(self)) or trained[-1])
        whole = distil("whole")
    step1 = distil("parts", until_step=1)
    build_hooks = Trainer.build_hooks
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "stops", [])
        patch.setattr(Trainer, "build_hooks", lambda self: [*build_hooks(self), Stop()])
        with pytest.raises(KeyboardInterrupt):
            distil("parts")
    found, expected = weights_of(distil("parts", until_step=3)), weights_of(whole)
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []

    assert not any(k.startswith(("teacher", "student", "outputs")) for k in expected)
    assert any(not torch.equal(v, weights_of(step1)[k]) for k, v in expected.items())

    loaded = load_detector(whole)
    assert type(loaded.model) is ORIGINALS[kind][0]
    image = {"image": torch.randint(0, 255, (3, 32, 40), dtype=torch.uint8)}
    with torch.no_grad():
        ours, theirs = (m([image])[0]["instances"] for m in (trained[-1].eval(), loaded.model))
    assert len(theirs) > 0
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
    assert torch.equal(ours.scores, theirs.scores)


def test_the_losses_of_two_processes_average_to_those_of_one(
    tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [pair([[4.0, 4, 20, 22]]), pair([[2.0, 2, 30, 28], [8.0, 4, 20, 14]])]
    whole, halves = detector(tiny_cfg, "fcos"), [detector(tiny_cfg, "fcos") for _ in batch]
    before = 300.0  # what Detectron2 starts with
    for _ in range(2):
        with EventStorage(0):
            expected = whole(batch)
        count = (whole.loss_normalizer.item() - 0.9 * before) / 0.1
        before = whole.loss_normalizer.item()
        with monkeypatch.context() as patch, EventStorage(0):
            patch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
            patch.setattr("torch.distributed.all_reduce", partial(torch.Tensor.fill_, value=count))
            found = [half([item]) for half, item in zip(halves, batch, strict=True)]
        for name, loss in expected.items():
            torch.testing.assert_close((found[0][name] + found[1][name]) / 2, loss, rtol=1e-4, atol=1e-6)


def test_divergence_is_one_clear_error(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match=r"diverged.*BASE_LR"):
        run_training(tiny_cfg("fcos/teacher", "SOLVER.BASE_LR", 1e12, "SOLVER.CLIP_GRADIENTS.ENABLED", False))

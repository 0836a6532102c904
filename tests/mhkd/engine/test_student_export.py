from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mhkd.deploy.detector_file import Detector, load_detector
from mhkd.engine.trainer import Trainer
from mhkd.weights import read_checkpoint
from preprocess.base.errors import UserError
from tests.mhkd.engine.runs import MakeCfg, assert_same, checkpoint_of, distil, only, weights_of


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_exported_student_detects_what_the_trained_one_does(
    tiny_cfg: MakeCfg, teacher: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    trained = []
    export = Trainer.detector_to_export
    monkeypatch.setattr(Trainer, "detector_to_export", lambda self: trained.append(export(self)) or trained[-1])
    overrides = ("MODEL.MHKD.EMA_DECAY", ema, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    step3 = distil(tiny_cfg, teacher, *only("semantic"), *overrides)
    image = {"image": torch.randint(0, 255, (3, 32, 40), dtype=torch.uint8)}
    with torch.no_grad():
        expected, found = (m([image])[0]["instances"] for m in (trained[-1].eval(), load_detector(step3).model))
    assert len(found) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    final = checkpoint_of(step3)["model"]
    same = all(torch.equal(v, final[f"student.{k}"]) for k, v in weights_of(step3).items())
    assert same == (ema == 0.0)


def test_the_best_student_on_the_validation_tiles_is_exported(
    tiny_cfg: MakeCfg, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, seen = iter([10.0, 30.0, 20.0, None]), []

    def evaluate(detector: Detector, *_: Any, **__: Any) -> dict[str, float | None]:
        seen.append({key: value.clone() for key, value in detector.model.state_dict().items()})
        return {"AP": next(scores)}

    monkeypatch.setattr("mhkd.engine.trainer.evaluate_tiles", evaluate)
    overrides = ("TEST.EVAL_PERIOD", 1, "MODEL.MHKD.SELECT", "best")
    best = distil(tiny_cfg, teacher, *only("local"), *overrides)
    assert_same(seen[1], weights_of(best))
    assert read_checkpoint(best)["provenance"]["iterations"] == 2
    with pytest.raises(UserError, match=r"SELECT is best.*EVAL_PERIOD"):
        distil(tiny_cfg, teacher, "MODEL.MHKD.SELECT", "best")


def test_a_step_that_is_over_does_not_come_back(tiny_cfg: MakeCfg, teacher: Path) -> None:
    distil(tiny_cfg, teacher)
    step1 = distil(tiny_cfg, teacher, until_step=1)
    step1.unlink()
    with pytest.raises(UserError, match="has gone on to iteration 4, and what it was at 2 is gone"):
        distil(tiny_cfg, teacher, until_step=1)
    with pytest.raises(UserError, match=r"no training step 4.*1, 2, 3"):
        distil(tiny_cfg, teacher, until_step=4)


def test_an_exported_detector_that_was_removed_is_written_again(tiny_cfg: MakeCfg, teacher: Path) -> None:
    last = distil(tiny_cfg, teacher)
    before = last.read_bytes()
    last.unlink()
    assert distil(tiny_cfg, teacher).read_bytes() == before

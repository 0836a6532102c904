from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import cv2
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mhkd.deploy.detector_file import Detector, load_detector
from mhkd.engine.selection import BEST_FILE
from mhkd.engine.train import launch_training, run_training
from mhkd.engine.trainer import Trainer
from mhkd.weights import read_checkpoint
from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use
from tests.mhkd.modeling.pairs import CASCADE

MakeCfg = Callable[..., CfgNode]


class Stop(HookBase):
    """Ctrl-C at the end of each iteration, once; ``stops`` are those of all attempts."""

    stops: ClassVar[list[tuple[str, int]]] = []

    def after_step(self) -> None:
        here = Path(self.trainer.cfg.OUTPUT_DIR).name, self.trainer.iter
        if here not in self.stops:
            self.stops.append(here)
            raise KeyboardInterrupt


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["model"]


def distil(tiny_cfg: MakeCfg, step: str, teacher: Path, start: Path, *overrides: object) -> Path:
    return run_training(
        tiny_cfg(step, "MODEL.WEIGHTS", str(start), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), *overrides)
    )


def test_the_steps_follow_one_another_and_leave_plain_students(tiny_cfg: MakeCfg, teacher: Path) -> None:
    before = {k: v.clone() for k, v in weights_of(teacher).items()}
    step1 = distil(tiny_cfg, "step1", teacher, teacher)
    step2 = distil(tiny_cfg, "step2", teacher, step1)
    step3 = distil(tiny_cfg, "step3", teacher, step2)

    students = [weights_of(p) for p in (step1, step2, step3)]
    assert all(not k.startswith(("teacher", "student")) for student in students for k in student)
    assert any(k.startswith("bfa.") for k in students[0])
    for earlier, later in ((before, students[0]), (students[0], students[1]), (students[1], students[2])):
        assert any(not torch.equal(earlier[k], later[k]) for k in earlier)

    # The teacher inside the distiller's last checkpoint is the teacher that went in, to the bit.
    inside = read_checkpoint(step3.parent / "semantic" / "model_final.pth")["model"]
    assert all(torch.equal(inside[f"teacher.detector.{k}"], v) for k, v in before.items())

    detector = load_detector(step3)
    assert (detector.input_mpp, detector.tile_px, detector.class_names) == (8.0, 32, ("Glomerulus",))
    image = torch.full((3, 32, 40), 200, dtype=torch.uint8)
    instances = detector.model([{"image": image}])[0]["instances"]
    assert instances.image_size == (32, 40)


MUTUAL = ("MODEL.MHKD.TEACHER.TRAINABLE", ["roi_heads"])
EMA = ("MODEL.MHKD.EMA_DECAY", 0.9)
EVERYTHING = (
    *MUTUAL,
    *EMA,
    *("TEST.EVAL_PERIOD", 1, "MODEL.MHKD.SELECT", "best", "SOLVER.OPTIMIZER", "sgd"),
    *("MODEL.MHKD.LOSS_WEIGHTS.FEATURE", 1.0, "MODEL.MHKD.FEATURE_LOSS", "mgd"),
)
# Two phases of two iterations, the first of which is lost each time, loaded by a process of its own.
RARELY = ("SOLVER.CHECKPOINT_PERIOD", 2, "DATALOADER.NUM_WORKERS", 1)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("baseline_strict", (*EMA, "SOLVER.MAX_ITER", 2)),
        ("step1", (*EMA, *RARELY)),
        ("step3", EVERYTHING),
    ],
    ids=["baseline", "two-phases", "everything"],
)
def test_stopped_at_every_iteration_and_resumed_is_the_same_run(
    name: str,
    overrides: tuple[object, ...],
    tiny_cfg: MakeCfg,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit, with AdamW and the demo's augmentation; also stopped between the last iteration and the export."""
    alone = ("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path / "whole"))
    whole = distil(tiny_cfg, name, teacher, teacher, *overrides, *alone)
    monkeypatch.setattr(Stop, "stops", [])
    build_hooks = Trainer.build_hooks
    monkeypatch.setattr(Trainer, "build_hooks", lambda self: [*build_hooks(self), Stop()])
    parts = None
    while parts is None:
        assert not (tmp_path / "parts" / "detector.pth").exists()
        with suppress(KeyboardInterrupt):
            parts = distil(tiny_cfg, name, teacher, teacher, *overrides, "OUTPUT_DIR", str(tmp_path / "parts"))
    folders = sorted(path.parent for path in whole.parent.glob("*/detector.pth"))
    per_phase = tiny_cfg(name, *overrides).SOLVER.MAX_ITER // len(folders)
    assert sorted(Stop.stops) == [(folder.name, i) for folder in folders for i in range(per_phase)]
    for folder in folders:
        other = parts.parent / folder.name
        assert_same(weights_of(folder / "detector.pth"), weights_of(other / "detector.pth"))
        last, resumed = (read_checkpoint(path / "model_final.pth") for path in (folder, other))
        assert_same(last["model"], resumed["model"])
        if "MODEL.MHKD.EMA_DECAY" in overrides:
            assert_same(last["ema"], resumed["ema"])
        assert [path.name for path in other.glob("model_*.pth") if path.name != BEST_FILE] == ["model_final.pth"]
    assert_same(weights_of(whole), weights_of(parts))


def assert_same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []


@pytest.mark.parametrize("trainable", [False, True])
def test_only_what_may_learn_changes_in_the_teacher(tiny_cfg: MakeCfg, teacher: Path, trainable: bool) -> None:
    before = weights_of(teacher)
    step3 = distil(tiny_cfg, "step3", teacher, teacher, *(MUTUAL if trainable else ()), "MODEL.MHKD.EMA_DECAY", 0.5)
    after = weights_of(step3.parent / "semantic" / "model_final.pth")
    changed = {k for k, v in before.items() if not torch.equal(after[f"teacher.detector.{k}"], v)}
    assert bool(changed) == trainable
    assert all(k.startswith(("roi_heads.box_head", "roi_heads.box_predictor")) for k in changed)
    assert not any("teacher" in k or "ema" in k for k in weights_of(step3))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_exported_student_detects_what_the_trained_one_does(
    tiny_cfg: MakeCfg, teacher: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    trained = []
    export = Trainer.detector_to_export
    monkeypatch.setattr(Trainer, "detector_to_export", lambda self: trained.append(export(self)) or trained[-1])
    overrides = ("MODEL.MHKD.EMA_DECAY", ema, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    step3 = distil(tiny_cfg, "step3", teacher, teacher, *overrides)
    image = {"image": torch.randint(0, 255, (3, 32, 40), dtype=torch.uint8)}
    with torch.no_grad():
        expected, found = (m([image])[0]["instances"] for m in (trained[-1].eval(), load_detector(step3).model))
    assert len(found) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    final = weights_of(step3.parent / "semantic" / "model_final.pth")
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
    best = distil(tiny_cfg, "step2", teacher, teacher, *overrides)
    assert_same(seen[1], weights_of(best))
    assert read_checkpoint(best)["provenance"]["iterations"] == 2
    with pytest.raises(UserError, match=r"SELECT is best.*EVAL_PERIOD"):
        distil(tiny_cfg, "step2", teacher, teacher, "MODEL.MHKD.SELECT", "best")


def test_losses_and_their_shares_are_logged(tiny_cfg: MakeCfg, teacher: Path) -> None:
    pictures = ("VIS_PERIOD", 1, "MODEL.MHKD.LOSS_WEIGHTS.FEATURE", 1.0)
    step3 = distil(tiny_cfg, "step3", teacher, teacher, "TEST.EVAL_PERIOD", 4, *pictures)
    lines = (step3.parent / "semantic" / "metrics.json").read_text().splitlines()
    logged = {key: value for line in lines for key, value in json.loads(line).items()}
    for name in ("feature", "local", "semantic_cls", "semantic_box"):
        task = sum(v for k, v in logged.items() if k.startswith("loss_") and not k.startswith("loss_kd_"))
        assert logged[f"kd_ratio/{name}"] == pytest.approx(logged[f"loss_kd_{name}"] / task, rel=0.5)
    assert 0 <= logged["val/AP"] <= 100
    board = EventAccumulator(str(step3.parent / "semantic")).Reload()
    assert {"loss_kd_feature", "kd_ratio/feature", "kd_ratio/local", "total_loss", "lr"} <= {*board.Tags()["scalars"]}
    assert {f"features/{p}: f_H, f_L, f_L'" for p in ("p3", "p4", "p5")} <= {*board.Tags()["images"]}


def test_a_weight_that_no_loss_reads_is_refused(tiny_cfg: MakeCfg, teacher: Path) -> None:
    with pytest.raises(UserError, match=r"LOSS_WEIGHTS\.LOCAL is set, and nothing is distilled"):
        distil(tiny_cfg, "baseline_strict", teacher, teacher, "MODEL.MHKD.LOSS_WEIGHTS.LOCAL", 1.0)


def test_a_student_sees_no_other_magnification(tiny_cfg: MakeCfg, teacher: Path) -> None:
    with pytest.raises(UserError, match=r"INPUT\.LOW_SHARE is set, and a student is trained"):
        distil(tiny_cfg, "baseline_strict", teacher, teacher, "INPUT.LOW_SHARE", 0.5)


def test_a_finished_run_is_not_repeated_and_another_is_not_mixed_in(tiny_cfg: MakeCfg) -> None:
    teacher = run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1))
    first = (teacher.parent / "train" / "detector.pth").stat().st_mtime_ns
    run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1))
    assert (teacher.parent / "train" / "detector.pth").stat().st_mtime_ns == first
    with pytest.raises(UserError, match="other config"):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 0.5))


def test_two_runs_do_not_share_a_folder(tiny_cfg: MakeCfg) -> None:
    cfg = tiny_cfg("teacher")
    with exclusive_use(cfg.OUTPUT_DIR), pytest.raises(UserError, match="another process is at work here"):
        run_training(cfg)
    assert run_training(cfg).is_file()


def test_where_a_student_starts_can_stand_in_the_config(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    named = distil(tiny_cfg, "step2", teacher, teacher, "SOLVER.MAX_ITER", 1)
    overrides = ("MODEL.MHKD.INIT", "teacher", "OUTPUT_DIR", str(tmp_path / "other"), "SOLVER.MAX_ITER", 1)
    chosen = run_training(tiny_cfg("step2", "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), *overrides))
    assert all(torch.equal(v, weights_of(named)[k]) for k, v in weights_of(chosen).items())


def test_phases_can_be_left_out_put_in_another_order_and_merged(tiny_cfg: MakeCfg, teacher: Path) -> None:
    """The last phase of the method without its local loss, first; then features and RoI features at once."""
    weight = "MODEL.MHKD.LOSS_WEIGHTS."
    phases = [
        {"NAME": "scores", f"{weight}SEMANTIC_CLS": 1.0},
        {"NAME": "merged", "SHARE": 3, f"{weight}FEATURE": 1.0, f"{weight}LOCAL": 1.0, "MODEL.BACKBONE.FREEZE_AT": 5},
    ]
    short = ("MODEL.MHKD.BFA.ENABLED", False, "MODEL.MHKD.PHASES", phases)
    student = distil(tiny_cfg, "step1", teacher, teacher, *short)
    logged = {}
    for phase in student.parent.glob("*/metrics.json"):
        last = json.loads(phase.read_text().splitlines()[-1])
        logged[phase.parent.name] = (last["iteration"], {key for key in last if key.startswith("loss_kd_")})
    assert logged == {
        "scores": (0, {"loss_kd_semantic_cls"}),
        "merged": (2, {"loss_kd_feature", "loss_kd_local"}),
    }
    # What is trainable is part of a phase: the second one froze the backbone.
    first, last = (weights_of(student.parent / name / "detector.pth") for name in ("scores", "merged"))
    changed = {key for key, value in last.items() if not torch.equal(value, first[key])}
    assert any(key.startswith("roi_heads.") for key in changed)
    assert not any(key.startswith("backbone.bottom_up.") for key in changed)


def test_a_cascade_goes_through_all_phases(tiny_cfg: MakeCfg) -> None:
    """One step with every phase: the list is data."""
    short = (*CASCADE, "MODEL.MHKD.BFA.ENABLED", False)
    teacher = run_training(tiny_cfg("teacher", *short, "SOLVER.MAX_ITER", 1))
    weight = "MODEL.MHKD.LOSS_WEIGHTS."
    phases = [
        {"NAME": "basic", f"{weight}FEATURE": 1.0},
        {"NAME": "adaptive", f"{weight}FEATURE": 1.0, "MODEL.MHKD.BFA.ENABLED": True},
        {"NAME": "local", f"{weight}LOCAL": 1.0, "MODEL.MHKD.BFA.ENABLED": True},
        {"NAME": "semantic", f"{weight}LOCAL": 1.0, f"{weight}SEMANTIC_CLS": 1.0, f"{weight}SEMANTIC_BOX": 1.0}
        | {"MODEL.MHKD.BFA.ENABLED": True, "MODEL.MHKD.TEACHER.TRAINABLE": ["roi_heads"]},
    ]
    student = distil(tiny_cfg, "step1", teacher, teacher, *short, "MODEL.MHKD.PHASES", phases)
    detector = load_detector(student)
    assert type(detector.model.roi_heads).__name__ == "CascadeROIHeads"
    assert any(k.startswith("bfa.") for k in detector.model.state_dict())


def test_two_processes_give_the_result_of_one(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    """Within 1e-3 of the way that the weights went, where every loss divides evenly.

    For that every anchor and a fixed number of RoIs an image take part, and the losses are means over images,
    anchors or RoIs. SGD, as Adam turns the sign of a gradient that is all rounding into a full step.
    """
    overrides = (
        *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 2, "SOLVER.OPTIMIZER", "sgd", "SOLVER.BASE_LR", 0.01),
        *("SOLVER.CLIP_GRADIENTS.ENABLED", False, "MODEL.MHKD.BF16", "off", "MODEL.MHKD.EMA_DECAY", 0.9),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 1000, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 8),
        *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False, "MODEL.MHKD.FEATURE_LOSS", "mse"),
    )
    phase = {"NAME": "phase", "MODEL.MHKD.LOSS_WEIGHTS.FEATURE": 1.0, "MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CLS": 1.0}
    found = []
    for count in (1, 2):
        where = ("OUTPUT_DIR", str(tmp_path / f"processes{count}"), "MODEL.MHKD.PHASES", [phase])
        weights = ("MODEL.WEIGHTS", str(teacher), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher))
        found.append(weights_of(launch_training(tiny_cfg("step3", *overrides, *weights, *where), count)))
    one, two = found
    start = {**one, **weights_of(teacher)}  # a new BFA begins at its own random weights
    way = torch.cat([(one[k] - start[k]).flatten() for k in one]).norm()
    apart = torch.cat([(one[k] - two[k]).flatten() for k in one]).norm()
    assert way > 0
    assert apart / way < 1e-3


def test_failures_of_several_processes_are_one_clear_error(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match="IMS_PER_BATCH 2 does not divide among 3"):
        launch_training(tiny_cfg("teacher"), 3)


def test_missing_steps_are_named_with_the_remedy(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pth.*make train-teacher"):
        distil(tiny_cfg, "step1", tmp_path / "no.pth", teacher)
    with pytest.raises(UserError, match=r"no\.pth.*previous step"):
        distil(tiny_cfg, "step2", teacher, tmp_path / "no.pth")
    with pytest.raises(UserError, match=r"TEACHER\.WEIGHTS is empty"):
        run_training(tiny_cfg("step1"))


def test_divergence_is_one_clear_error(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match=r"diverged.*BASE_LR"):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 1e12, "SOLVER.CLIP_GRADIENTS.ENABLED", False))


def test_the_loss_that_is_no_number_is_named_at_once(
    tiny_cfg: MakeCfg, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mhkd.modeling.distill_roi.local_loss", lambda ours, *_: ours.sum() * float("nan"))
    with pytest.raises(UserError, match=r"NaN at iteration=0! \(loss_kd_local\)"):
        distil(tiny_cfg, "step2", teacher, teacher)


def test_a_damaged_tile_is_named(tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imread", lambda *_: None)
    with pytest.raises(UserError, match=r"teacher_.*missing or damaged"):
        run_training(tiny_cfg("teacher"))

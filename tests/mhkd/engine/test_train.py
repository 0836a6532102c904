from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mhkd.deploy.detector_file import load_detector
from mhkd.engine.checkpoint import BEST_FILE
from mhkd.engine.train import run_training
from mhkd.engine.trainer import Trainer
from mhkd.weights import read_checkpoint, write_checkpoint
from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use
from preprocess.tiles.manifest import Manifest
from tests.mhkd.engine.runs import PHASES, MakeCfg, Stop, assert_same, checkpoint_of, distil, only, weights_of
from tests.mhkd.modeling.pairs import CASCADE


def test_the_steps_follow_one_another_and_leave_plain_students(tiny_cfg: MakeCfg, teacher: Path) -> None:
    before = {k: v.clone() for k, v in weights_of(teacher).items()}
    step1, step2, step3 = (distil(tiny_cfg, teacher, until_step=step) for step in (1, 2, 3))
    assert [path.parent.name for path in (step1, step2)] == ["step1", "step2"]

    students = [weights_of(p) for p in (step1, step2, step3)]
    assert all(not k.startswith(("teacher", "student")) for student in students for k in student)
    assert any(k.startswith("bfa.") for k in students[0])
    for earlier, later in ((before, students[0]), (students[0], students[1]), (students[1], students[2])):
        assert any(not torch.equal(earlier[k], later[k]) for k in earlier)

    # The distiller's checkpoint has none of the teacher, which never changes.
    assert not any(key.startswith("teacher.") for key in checkpoint_of(step3)["model"])
    assert_same(weights_of(step3), weights_of(step3.parent / "step3" / "detector.pth"))

    detector = load_detector(step3)
    assert (detector.input_mpp, detector.tile_px, detector.class_names) == (8.0, 32, ("Glomerulus",))
    image = torch.full((3, 32, 40), 200, dtype=torch.uint8)
    instances = detector.model([{"image": image}])[0]["instances"]
    assert instances.image_size == (32, 40)


MUTUAL = ("MODEL.MHKD.TEACHER.TRAINABLE", ["roi_heads"])
EMA = ("MODEL.MHKD.EMA_DECAY", 0.9)
EVERYTHING = (
    *EMA,
    *("TEST.EVAL_PERIOD", 1, "MODEL.MHKD.SELECT", "best", "SOLVER.OPTIMIZER", "sgd", "MODEL.MHKD.FEATURE_LOSS", "mgd"),
    "MODEL.MHKD.PHASES",
    [
        {"NAME": "basic", "STEP": 1, **PHASES["basic"], "MODEL.MHKD.FROZEN": ["roi_heads."]},
        {"NAME": "semantic", "STEP": 2, **PHASES["semantic"], "MODEL.MHKD.TEACHER.TRAINABLE": ["roi_heads"]},
    ],
)
# Of four phases of an iteration every other checkpoint is lost, loaded by a process of its own.
RARELY = ("SOLVER.CHECKPOINT_PERIOD", 2, "DATALOADER.NUM_WORKERS", 1)


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [((*EMA, *RARELY), (1, 2, 3)), (RARELY, (None,)), (EVERYTHING, (1, 2)), (EVERYTHING, (None,))],
    ids=["steps", "phases", "everything-in-steps", "everything"],
)
def test_stopped_at_every_iteration_and_across_steps_is_the_same_run(
    overrides: tuple[object, ...],
    steps: tuple[int | None, ...],
    tiny_cfg: MakeCfg,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit, with AdamW and the demo's augmentation; also stopped between the last iteration and the export."""
    alone = ("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path / "whole"))
    whole = distil(tiny_cfg, teacher, *overrides, *alone)
    monkeypatch.setattr(Stop, "stops", [])
    build_hooks = Trainer.build_hooks
    monkeypatch.setattr(Trainer, "build_hooks", lambda self: [*build_hooks(self), Stop()])
    for step in steps:
        parts = None
        while parts is None:
            with suppress(KeyboardInterrupt):
                parts = distil(tiny_cfg, teacher, *overrides, "OUTPUT_DIR", str(tmp_path / "parts"), until_step=step)
    assert sorted(Stop.stops) == [0, 1, 2, 3]
    exported = sorted(path.relative_to(whole.parent) for path in whole.parent.rglob("detector.pth"))
    assert len(exported) > 1
    for path in exported:
        assert_same(weights_of(whole.parent / path), weights_of(tmp_path / "parts" / path))
    last, resumed = checkpoint_of(whole), read_checkpoint(tmp_path / "parts" / "model_final.pth")
    for state in ("model", *(["ema"] if "MODEL.MHKD.EMA_DECAY" in overrides else [])):
        assert_same(last[state], resumed[state])
    assert str(last["trainer"]) == str(resumed["trainer"])  # the optimiser's state, its rate and the iteration
    others = [path.name for path in (tmp_path / "parts").glob("model_*.pth") if path.name != BEST_FILE]
    assert others == ["model_final.pth"]


def test_a_baseline_stopped_at_every_iteration_is_the_same_run(
    tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ("MODEL.WEIGHTS", str(teacher), *EMA, "SOLVER.MAX_ITER", 2)
    whole = run_training(tiny_cfg("baseline_strict", *start, "OUTPUT_DIR", str(tmp_path / "whole")))
    monkeypatch.setattr(Stop, "stops", [])
    build_hooks = Trainer.build_hooks
    monkeypatch.setattr(Trainer, "build_hooks", lambda self: [*build_hooks(self), Stop()])
    parts = None
    while parts is None:
        with suppress(KeyboardInterrupt):
            parts = run_training(tiny_cfg("baseline_strict", *start, "OUTPUT_DIR", str(tmp_path / "parts")))
    assert sorted(Stop.stops) == [0, 1]
    assert_same(weights_of(whole), weights_of(parts))


@pytest.mark.parametrize("name", ["baseline_strict", "distill"])
def test_a_run_cut_into_phases_that_distil_nothing_is_the_run_in_one_phase(
    tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path, name: str
) -> None:
    """A phase border costs nothing: one optimiser, one schedule, one average and one stream of data, to the bit."""
    given = ("MODEL.WEIGHTS", str(teacher), "SOLVER.MAX_ITER", 8, *EMA, "SOLVER.CHECKPOINT_PERIOD", 3)
    given += ("MODEL.MHKD.TEACHER.WEIGHTS", str(teacher)) if name == "distill" else ()
    nothing: dict[str, object] = {"LOSSES": []}
    phases: list[dict[str, object]] = [{"NAME": part, "STEP": i, **nothing} for i, part in enumerate("abcd", 1)]
    one = ("MODEL.MHKD.PHASES", [{"NAME": "one", **nothing}], "OUTPUT_DIR", str(tmp_path / "one"))
    four = ("MODEL.MHKD.PHASES", phases, "OUTPUT_DIR", str(tmp_path / "four"))
    whole = run_training(tiny_cfg(name, *given, *one))
    for step in (1, 2, 3, 4):
        cut = run_training(tiny_cfg(name, *given, *four), step)
    assert_same(weights_of(whole), weights_of(cut))
    for state in ("model", "ema"):
        assert_same(checkpoint_of(whole)[state], checkpoint_of(cut)[state])


def test_what_a_phase_adds_begins_to_learn_with_it(tiny_cfg: MakeCfg, teacher: Path) -> None:
    """BFA and the teacher's head: untouched before, and the optimiser knows them no longer than their phase lasts."""
    phases = [
        {"NAME": "basic", "STEP": 1, "SHARE": 3, **PHASES["basic"]},
        {"NAME": "semantic", "STEP": 2, "SHARE": 2, **PHASES["semantic"], MUTUAL[0]: MUTUAL[1]},
    ]
    overrides = ("MODEL.MHKD.PHASES", phases, "SOLVER.MAX_ITER", 5)
    first = distil(tiny_cfg, teacher, *overrides, until_step=1)
    before = read_checkpoint(first.parents[1] / "model_final.pth")
    assert not any(k.startswith("bfa.") for k in weights_of(first))
    last = distil(tiny_cfg, teacher, *overrides)
    after = checkpoint_of(last)
    added = [key for key in after["model"] if key.startswith(("student.bfa.", "teacher."))]
    assert any(key.startswith("teacher.detector.roi_heads.box_head") for key in added)
    assert any(not torch.equal(before["model"][key], after["model"][key]) for key in added)
    steps = [{int(state["step"]) for state in _optimizer(x)["state"].values()} for x in (before, after)]
    assert steps == [{3}, {5, 2}]


def _optimizer(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return checkpoint["trainer"]["_trainer"]["optimizer"]


@pytest.mark.parametrize("trainable", [False, True])
def test_only_what_may_learn_changes_in_the_teacher(tiny_cfg: MakeCfg, teacher: Path, trainable: bool) -> None:
    before = weights_of(teacher)
    student = distil(tiny_cfg, teacher, *only("semantic"), *(MUTUAL if trainable else ()), "MODEL.MHKD.EMA_DECAY", 0.5)
    state = checkpoint_of(student)["model"]
    kept = {k.removeprefix("teacher.detector."): v for k, v in state.items() if "teacher" in k}
    assert bool(kept) == trainable
    assert all(k.startswith(("roi_heads.box_head", "roi_heads.box_predictor")) for k in kept)
    assert not trainable or any(not torch.equal(v, before[k]) for k, v in kept.items())
    assert not any("teacher" in k or "ema" in k for k in weights_of(student))


def test_losses_and_their_shares_are_logged(tiny_cfg: MakeCfg, teacher: Path) -> None:
    losses = ["FEATURE", "LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX"]
    pictures = ("VIS_PERIOD", 1, *only("semantic", LOSSES=losses))
    step3 = distil(tiny_cfg, teacher, "TEST.EVAL_PERIOD", 4, *pictures)
    lines = (step3.parent / "metrics.json").read_text().splitlines()
    logged = {key: value for line in lines for key, value in json.loads(line).items()}
    for name in ("feature", "local", "semantic_cls", "semantic_box"):
        task = sum(v for k, v in logged.items() if k.startswith("loss_") and not k.startswith("loss_kd_"))
        assert logged[f"kd_ratio/{name}"] == pytest.approx(logged[f"loss_kd_{name}"] / task, rel=0.5)
    assert 0 <= logged["val/AP"] <= 100
    board = EventAccumulator(str(step3.parent)).Reload()
    assert {"loss_kd_feature", "kd_ratio/feature", "kd_ratio/local", "total_loss", "lr"} <= {*board.Tags()["scalars"]}
    assert {f"features/{p}: f_H, f_L, f_L'" for p in ("p3", "p4", "p5")} <= {*board.Tags()["images"]}


def test_a_weight_that_no_loss_reads_is_refused(tiny_cfg: MakeCfg, teacher: Path) -> None:
    with pytest.raises(UserError, match=r"LOSS_WEIGHTS\.LOCAL is set, and nothing is distilled"):
        run_training(tiny_cfg("baseline_strict", "MODEL.MHKD.LOSS_WEIGHTS.LOCAL", 1.0))


def test_a_student_sees_no_other_magnification(tiny_cfg: MakeCfg, teacher: Path) -> None:
    with pytest.raises(UserError, match=r"INPUT\.LOW_SHARE is set, and a student is trained"):
        run_training(tiny_cfg("baseline_strict", "INPUT.LOW_SHARE", 0.5))


def test_two_runs_do_not_share_a_folder(tiny_cfg: MakeCfg) -> None:
    cfg = tiny_cfg("teacher")
    with exclusive_use(cfg.OUTPUT_DIR), pytest.raises(UserError, match="another process is at work here"):
        run_training(cfg)
    assert run_training(cfg).is_file()


def test_where_a_student_starts_can_stand_in_the_config(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    named = distil(tiny_cfg, teacher, *only("local"), "SOLVER.MAX_ITER", 1)
    overrides = ("MODEL.MHKD.INIT", "teacher", "OUTPUT_DIR", str(tmp_path / "other"), "SOLVER.MAX_ITER", 1)
    given = ("MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), *only("local"))
    chosen = run_training(tiny_cfg("distill", *given, *overrides))
    assert_same(weights_of(named), weights_of(chosen))


def test_phases_can_be_left_out_put_in_another_order_and_merged(tiny_cfg: MakeCfg, teacher: Path) -> None:
    """The last phase of the method without its local loss, first; then features and RoI features at once."""
    phases = [
        {"NAME": "scores", "STEP": 1, "LOSSES": ["SEMANTIC_CLS"]},
        {"NAME": "merged", "STEP": 2, "SHARE": 3, "LOSSES": ["FEATURE", "LOCAL"], "MODEL.MHKD.FROZEN": ["backbone."]},
    ]
    logged, folder = [], Path(tiny_cfg("distill").OUTPUT_DIR)
    for step in (1, 2):
        distil(tiny_cfg, teacher, "MODEL.MHKD.PHASES", phases, until_step=step)
        lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        last = [line for line in lines if "total_loss" in line][-1]
        logged.append((last["iteration"], {key for key in last if key.startswith("loss_kd_")}))
    assert logged == [(0, {"loss_kd_semantic_cls"}), (3, {"loss_kd_feature", "loss_kd_local"})]
    # What is trainable is part of a phase: the second one froze the backbone.
    first, second = (weights_of(folder / name / "detector.pth") for name in ("step1", "step2"))
    changed = {key for key, value in second.items() if not torch.equal(value, first[key])}
    assert any(key.startswith("roi_heads.") for key in changed)
    assert not any(key.startswith("backbone.") for key in changed)


def test_a_cascade_goes_through_all_phases(tiny_cfg: MakeCfg) -> None:
    teacher = run_training(tiny_cfg("teacher", *CASCADE, "SOLVER.MAX_ITER", 1))
    detector = load_detector(distil(tiny_cfg, teacher, *CASCADE))
    assert type(detector.model.roi_heads).__name__ == "CascadeROIHeads"
    assert any(k.startswith("bfa.") for k in detector.model.state_dict())


def test_missing_weights_are_named_with_the_remedy(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pth.*make train-teacher"):
        distil(tiny_cfg, tmp_path / "no.pth", start=teacher)
    with pytest.raises(UserError, match=r"no\.pth: weights not found"):
        distil(tiny_cfg, teacher, start=tmp_path / "no.pth")
    with pytest.raises(UserError, match=r"TEACHER\.WEIGHTS is empty"):
        run_training(tiny_cfg("distill"))


def test_divergence_is_one_clear_error(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match=r"diverged.*BASE_LR"):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 1e12, "SOLVER.CLIP_GRADIENTS.ENABLED", False))


def test_the_loss_that_is_no_number_is_named_at_once(
    tiny_cfg: MakeCfg, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mhkd.modeling.distill_roi.local_loss", lambda ours, *_: ours.sum() * float("nan"))
    with pytest.raises(UserError, match=r"NaN at iteration=0! \(loss_kd_local\)"):
        distil(tiny_cfg, teacher, *only("local"))


def test_a_damaged_tile_is_named(tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imread", lambda *_: None)
    with pytest.raises(UserError, match=r"teacher_.*missing or damaged"):
        run_training(tiny_cfg("teacher"))


def test_slides_that_could_not_be_cut_are_said(
    tiny_cfg: MakeCfg, tile_pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tile_pairs, tmp_path / "tiles")
    manifest = replace(Manifest.read(tile_pairs), failed_slides=("broken", "gone"))
    manifest.write(tmp_path / "tiles")
    folder = run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1, "DATASETS.TILES", str(tmp_path / "tiles"))).parent
    said = "trained without 2 slides that could not be cut: broken, gone"
    assert said in capsys.readouterr().err
    assert said in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_mpp": 1.0}, r"the teacher was trained at 1\.0 um/px, the tiles' teacher images have 2\.0"),
        ({"class_names": ["Tubule"]}, "the teacher's classes are Tubule, those of the tiles Glomerulus"),
    ],
)
def test_a_teacher_of_other_tiles_is_refused(
    tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    other = tmp_path / "other.pth"
    write_checkpoint(other, read_checkpoint(teacher) | changes)
    with pytest.raises(UserError, match=message):
        distil(tiny_cfg, other, start=teacher)

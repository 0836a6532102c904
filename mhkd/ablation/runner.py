"""Runs of the controls: each trained and scored by itself, several at once, finished ones never again."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from detectron2.config import CfgNode

from mhkd.ablation.table import TEACHER, Control, Recipe, control_of
from mhkd.ablation.teacher_check import check_teacher
from mhkd.ablation.untrained import export_untrained
from mhkd.deploy.detector import Detector
from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.load import load_model
from mhkd.engine.run_record import RECORD_FILE, hash_of_start
from mhkd.engine.student_export import DETECTOR_FILE
from mhkd.engine.train import run_training
from mhkd.evaluation.pseudo_labels import make_pseudo_labels
from mhkd.evaluation.slide_level import evaluate_slides, evaluated_cohort
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.slide_job import ModelFile
from mhkd.provenance import software
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of, write_json
from preprocess.base.parallel import num_processors
from preprocess.jobs.job_result import JobResult
from preprocess.jobs.run import run_cohort
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pseudo_labels import PseudoLabels

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Run:
    """One control with one seed, in ``folder``; ``teacher`` is the detector it starts from or imitates."""

    control: str
    seed: int
    recipe: Recipe
    slides: Path
    split: str
    folder: Path
    teacher: Path
    threads: int

    @property
    def name(self) -> str:
        """As a report calls it."""
        return f"{self.control}, seed {self.seed}"

    @property
    def what(self) -> Control:
        """Its row of the table."""
        return control_of(self.control)

    @property
    def detector(self) -> Path:
        """What its training leaves behind."""
        return self.teacher if self.control == TEACHER else self.folder / DETECTOR_FILE

    def labels(self, source: str) -> Path:
        """Where the pseudo-labels are that the control ``source`` makes with this seed."""
        return self.folder.parents[1] / "pseudo_labels" / source / f"seed{self.seed}"


def run_controls(
    names: Sequence[str],
    seeds: Sequence[int],
    recipe: Recipe,
    slides: Path,
    output_dir: Path,
    *,
    split: str = "test",
    jobs: int = 1,
    teachers: Path | None = None,
) -> list[JobResult[Run, dict[str, Any]]]:
    """Train and score the controls ``names`` with every one of ``seeds``, ``jobs`` at once.

    The teachers come first, one a seed, unless ``teachers`` is the output folder of other controls that had them; then
    the controls whose detectors label slides for others, which are added where they are missing. What is there already,
    finished or interrupted, must be what ``recipe`` describes. A run that fails does not stop the others. Raises
    UserError for a name that is no control, and for one that wants unlabelled slides where there are none.
    """
    labellers = {name: recipe.labeller(control_of(name)) for name in names}
    wanting = [name for name, labeller in labellers.items() if labeller]
    if wanting and Manifest.read(recipe.tiles).tiles["labelled"].all():
        raise UserError(f"{wanting[0]} wants slides that nobody annotated, and there are none", path=recipe.tiles)
    threads = threads_of_a_run(jobs)

    def runs(names: Sequence[str]) -> list[Run]:
        return [
            Run(name, seed, recipe, slides, split, run_folder(output_dir, name, seed), teacher, threads)
            for seed in seeds
            for teacher in [run_folder(teachers or output_dir, TEACHER, seed) / DETECTOR_FILE]
            for name in names
        ]

    done = run_cohort(_carry_out, runs([TEACHER]), jobs, "teachers", unit="run")
    lost = {outcome.item.seed for outcome in done if outcome.error}
    sources = list(dict.fromkeys(labellers[name] for name in wanting))
    alone = [name for name in dict.fromkeys([*names, *sources]) if name not in {TEACHER, *wanting}]
    alone_runs, label_runs, taught_runs = (
        [run for run in runs(some) if run.seed not in lost] for some in (alone, sources, wanting)
    )
    done += run_cohort(_carry_out, alone_runs, jobs, "students", unit="run")
    labels = run_cohort(_label, label_runs, jobs, "labels", unit="run") if label_runs else []
    done += [JobResult(outcome.item, error=outcome.error) for outcome in labels if outcome.error]
    return done + (run_cohort(_carry_out, taught_runs, jobs, "students", unit="run") if taught_runs else [])


def threads_of_a_run(jobs: int) -> int:
    """OMP_NUM_THREADS where the user says so, else the share that one of ``jobs`` has of the processors at hand."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return max(1, num_processors() // max(1, jobs))


def run_folder(output_dir: Path, control: str, seed: int) -> Path:
    """Where a run has its checkpoints, its log and its result."""
    return output_dir / control / f"seed{seed}"


def _carry_out(run: Run) -> dict[str, Any]:
    """Train and score one run, or read what an earlier call left of it."""
    torch.set_num_threads(run.threads)
    cv2.setNumThreads(run.threads)
    run.folder.mkdir(parents=True, exist_ok=True)
    with _output_to(run.folder / "output.txt"):
        detector, start = run.folder / DETECTOR_FILE, run.what.start
        manifest = Manifest.read(run.recipe.tiles)
        if run.what.budget == "none":
            export_untrained(run.teacher, detector, manifest, run.what.factor(run.recipe.scale))
        elif run.control == TEACHER and run.teacher != detector:
            detector = run.teacher
            check_teacher(detector, _config(run), manifest)
        else:
            cfg = _config(run)
            run_training(cfg)
            _check_start(run, cfg)
            start = "teacher" if str(run.teacher) == cfg.MODEL.WEIGHTS else "imagenet"
        return _score(run, detector, start) | {"seconds_per_iteration": seconds_per_iteration(detector.parent)}


def _config(run: Run) -> CfgNode:
    labels = run.labels(run.recipe.labeller(run.what))
    return run.recipe.config(run.what, seed=run.seed, output_dir=run.folder, teacher=run.teacher, labels=labels)


def _label(run: Run) -> PseudoLabels:
    """Let the detector of ``run`` label the slides that nobody annotated, for the controls that learn from it."""
    torch.set_num_threads(run.threads)
    folder = run.labels(run.control)
    folder.mkdir(parents=True, exist_ok=True)
    with _output_to(folder / "output.txt"):
        model = ModelFile.of(load_model, run.detector, run.recipe.device, 0)
        return make_pseudo_labels(model, run.slides, Manifest.read(run.recipe.tiles), folder)


def seconds_per_iteration(folder: Path) -> float | None:
    """What an iteration took by the log of the run in ``folder``: the median. None where there is no log."""
    log = folder / "metrics.json"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    seconds = [line["time"] for line in lines if "time" in line]
    return statistics.median(seconds) if seconds else None


def _check_start(run: Run, cfg: CfgNode) -> None:
    """Equal initial weights: the record of the run must name the very file."""
    record = run.folder / RECORD_FILE
    if json.loads(record.read_text(encoding="utf-8"))["files"].get("weights") != hash_of_start(cfg.MODEL.WEIGHTS):
        raise UserError("did not start from the weights that its control says", path=record)


def _score(run: Run, path: Path, start: str) -> dict[str, Any]:
    """Slide-level scores of the run's split, kept beside it until detector, slides or split change.

    start: whose weights it began with, "imagenet" or "teacher".
    """
    manifest = Manifest.read(run.recipe.tiles)
    key = {
        "detector": sha256_of(path),
        "slides": sha256_of(run.slides),
        "tiles": sha256_of(manifest.root / "manifest.csv"),
        "split": run.split,
    }
    file = run.folder / (RESULT_FILE if run.split == "test" else f"{run.split}-{RESULT_FILE}")
    if before := finished_result(file, key):
        return before
    detector = load_detector(path, run.recipe.device)
    result = {
        "control": run.control,
        "text": run.what.text,
        "seed": run.seed,
        "start": start,
        "iterations": run.recipe.budget(run.what),
        "input_mpp": detector.input_mpp,
        "upsample": detector.cfg.MODEL.MHKD.UPSAMPLE,
        "scores": score_detector(detector, run.slides, manifest, run.split, run.control),
        "inputs": key,
        "provenance": software(),
    }
    write_json(file, result)
    return result


def finished_result(file: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier call left in ``file``, if it was made of the same ``inputs``."""
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"inputs": None}
    return before if before["inputs"] == inputs else None


def score_detector(detector: Detector, table: Path, manifest: Manifest, split: str, name: str) -> dict[str, Any]:
    """The figures of docs/evaluation.md of ``detector`` on the slides of ``table`` in ``split``."""
    slides, classes = evaluated_cohort(table, manifest)
    predict, names = SlidePredictor(detector).predict, detector.class_names
    # Outlines were checked when the tiles were made, and what is misplaced was allowed then.
    return evaluate_slides(predict, slides, split, names, classes=classes, max_misplaced=1.0, description=name).result


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Standard output and error of this process, of libraries too, at the end of a file."""
    with path.open("ab") as log:
        before = [(fd, os.dup(fd)) for fd in (1, 2)]
        try:
            for fd, _ in before:
                os.dup2(log.fileno(), fd)
            yield
        finally:
            for fd, kept in before:
                os.dup2(kept, fd)
                os.close(kept)

"""The demo cohort: which slides it has, making them (again only where needed), and its tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.files import write_csv
from preprocess.jobs.run import run_cohort
from preprocess.slides.table import SPLITS
from preprocess.synthetic.settings import Difficulty, Look, SlideSpec
from preprocess.synthetic.slides import annotation_path, make_slide, slide_path
from preprocess.synthetic.stain import STAIN_TURNS

UNSEEN = "unseen"
_STAINS_AND_KINDS = (("PAS", "wedge"), ("HE", "cores"), ("PAS", "cores"), ("HE", "wedge"))
_SLIDES_PER_PATIENT = (1, 1, 2)
_MPPS = (0.4990, 0.5022, 0.4965, 0.5038)
_COLUMNS = ("slide", "annotation", "mpp", "patient", "split", "stain")
ORACLE = "oracle.csv"


@dataclass(frozen=True)
class MadeSlide:
    """What became of one specification."""

    spec: SlideSpec
    num_glomeruli: int
    size_bytes: int
    reused: bool


def demo_cohort(seed: int, counts: dict[str, int], *, size_px: tuple[int, int] = SlideSpec.size_px) -> list[SlideSpec]:
    """Specifications of a cohort with ``counts`` slides per split, and one unseen slide of another patient.

    A patient has one or two slides and is in one split only. The first training slide and the unseen one are TIFFs that
    state no mpp. A slide depends on the seed and its place in its split, so a larger cohort holds the smaller one.
    """
    specs = []
    for part, split in enumerate((*SPLITS, UNSEEN)):
        count = 1 if split == UNSEEN else counts.get(split, 0)
        patients = [patient for patient in range(count) for _ in range(_SLIDES_PER_PATIENT[patient % 3])][:count]
        for index, patient in enumerate(patients):
            stain, kind = _STAINS_AND_KINDS[(index + part) % 4]
            number = f"{index + 1:02d}"
            plain = split == UNSEEN or (split == "train" and index == 0)
            specs.append(
                SlideSpec(
                    name=UNSEEN if split == UNSEEN else f"{split}{number}-{stain.lower()}-{kind}",
                    patient=f"{split}-P{patient + 1:02d}",
                    split=split,
                    seed=int(np.random.SeedSequence([seed, part, index]).generate_state(1)[0]),
                    stain=stain,
                    kind=kind,
                    size_px=size_px,
                    mpp=_MPPS[(index + part) % len(_MPPS)],
                    flavour="tiff" if plain else "svs",
                )
            )
    return specs


def varied(specs: Sequence[SlideSpec]) -> list[SlideSpec]:
    """The same slides from as many laboratories: any stain of ``stain.DYES``, any look, harder or easier.

    For training what is to work on slides that nobody here has seen.
    """
    return [_varied(spec, index) for index, spec in enumerate(specs)]


def _varied(spec: SlideSpec, index: int) -> SlideSpec:
    rng = np.random.default_rng([spec.seed, 1])
    stain = STAIN_TURNS[index % len(STAIN_TURNS)]
    look = Look(
        stain_spread=float(rng.uniform(1.0, 3.5)),
        tubule_spacing_um=float(rng.uniform(40, 62)),
        wall_scale=float(rng.uniform(0.7, 2.1)),
        fibrosis=float(rng.uniform(-0.8, 0.9)),
    )
    difficulty = Difficulty(
        distractors_per_glomerulus=float(rng.uniform(0.3, 1.0)),
        colour_match=float(rng.uniform(0.2, 0.9)),
        texture_match=float(rng.uniform(0.2, 0.9)),
        halo_fraction=float(rng.uniform(0.1, 0.7)),
        bowman_space_um=(0.5, float(rng.uniform(5, 14))),
        sclerotic_fraction=float(rng.uniform(0.05, 0.25)),
        contrast_loss=float(rng.uniform(0, 0.3)),
        noise_levels=float(rng.uniform(1, 5)),
    )
    name = f"{spec.name.split('-')[0]}-{stain.lower().replace('_', '-')}-{spec.kind}"
    name = spec.name if spec.split == UNSEEN else name
    return replace(spec, name=name, stain=stain, look=look, difficulty=difficulty)


def make_cohort(specs: Sequence[SlideSpec], folder: Path, workers: int = 1, *, unlabelled: int = 0) -> list[MadeSlide]:
    """Make every slide of ``specs`` under ``folder``, then ``slides.csv`` and ``unseen.csv``.

    The last ``unlabelled`` training slides have no annotation in slides.csv; then ``oracle.csv`` is that table with all
    annotations, for who wants to know what those would have been worth.

    Finished slides of the same specification are kept. The bytes do not depend on ``workers``.
    """
    if workers < 1:
        raise UserError(f"--workers is {workers}", remedy="give 1 or more")
    results = run_cohort(partial(_make_once, folder=folder), specs, workers if workers > 1 else 0, "demo slides")
    for result in results:
        if result.error is not None:
            raise UserError(result.error)
    cohort = [spec for spec in specs if spec.split != UNSEEN]
    train = [spec.name for spec in cohort if spec.split == "train"]
    _write_table(folder / "slides.csv", cohort, folder, unlabelled=train[len(train) - unlabelled :])
    if unlabelled:
        _write_table(folder / ORACLE, cohort, folder)
    _write_table(folder / "unseen.csv", [spec for spec in specs if spec.split == UNSEEN], folder)
    return [result.value for result in results if result.value is not None]


def summary(made: Sequence[MadeSlide]) -> str:
    """A few lines for people: slides, glomeruli and patients per split."""
    lines = []
    for split in (*SPLITS, UNSEEN):
        part = [slide for slide in made if slide.spec.split == split]
        if part:
            patients = len({slide.spec.patient for slide in part})
            glomeruli = sum(slide.num_glomeruli for slide in part)
            lines.append(f"{split:>6}: {len(part):2d} slides, {patients:2d} patients, {glomeruli:4d} glomeruli")
    size = sum(slide.size_bytes for slide in made) / 1e6
    lines.append(f"{len(made)} slides, {size:.0f} MB; {sum(slide.reused for slide in made)} were there already")
    return "\n".join(lines)


def _make_once(spec: SlideSpec, folder: Path) -> MadeSlide:
    """Make one slide unless it is there; runs in a worker."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        path, annotation = slide_path(spec, folder), annotation_path(spec, folder)
        reused = path.is_file() and _digest_of(annotation) == spec.digest
        if not reused:
            path.unlink(missing_ok=True)
            make_slide(spec, folder)
        features = json.loads(annotation.read_text(encoding="utf-8"))["features"]
        return MadeSlide(spec, len(features), path.stat().st_size, reused)
    finally:
        cv2.setNumThreads(threads)


def _digest_of(annotation: Path) -> str | None:
    """The specification's digest that an annotation file carries, None where it is absent or not ours."""
    try:
        return json.loads(annotation.read_text(encoding="utf-8")).get("spec")
    except (OSError, ValueError, AttributeError):
        return None


def _write_table(path: Path, specs: Sequence[SlideSpec], folder: Path, unlabelled: Sequence[str] = ()) -> None:
    """The cohort table; mpp is left empty where the slide states its own, annotations where it is ``unlabelled``."""
    rows = []
    for spec in specs:
        files = [file(spec, folder).relative_to(folder).as_posix() for file in (slide_path, annotation_path)]
        mpp = "" if spec.flavour == "svs" else f"{spec.mpp:.4f}"
        rows.append([*files, mpp, spec.patient, spec.split, spec.stain])
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    if unlabelled:
        hidden = pd.Series([spec.name in unlabelled for spec in specs])
        table["annotation"] = table["annotation"].mask(hidden, "")
        table.insert(table.columns.get_loc("split") + 1, "labelled", hidden.map({True: "no", False: "yes"}))
    write_csv(path, table)

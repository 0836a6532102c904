"""A whole data set of tile pairs: from the slides table to the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap, spread_ignored
from preprocess.annotations.origin import check_origin
from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv
from preprocess.base.provenance import software
from preprocess.jobs.job_result import JobResult
from preprocess.jobs.run import EngineName, run_cohort
from preprocess.slides.files import is_neutral
from preprocess.slides.naming import anonymized, write_key
from preprocess.slides.readers.tiff import READER_VARIABLE
from preprocess.slides.search import SlideFile
from preprocess.slides.student_scan import ScanFile, parse_transform
from preprocess.slides.table import OUTPUT_NAME, check_patients, slide_rows
from preprocess.tiles.coco import write_coco
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest, remove_manifest
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.splits import Fractions, assign_splits, balance_splits
from preprocess.tiles.summary import TilingResult
from preprocess.tiles.writer import SlideJob, finished_record, write_slide

_INPUT_KEYS = ("slide_sha256", "annotation_sha256", "mpp", "mpp_xy", "mpp_source", "annotation_origin", "student_scan")


def plan_jobs(
    table: pd.DataFrame,
    root: Path,
    spec: PairSpec,
    *,
    fractions: Fractions,
    classes: ClassMap = AS_ANNOTATED,
    cache_dir: Path | None = None,
    fallback_mpp: float | None = None,
    origin: str | None = None,
    stratify: str | None = None,
    anonymize: bool = False,
    key: Path | None = None,
) -> list[SlideJob]:
    """A job for each row of ``table``, as :func:`preprocess.slides.table.read_slides_csv` returns it.

    A slide without a patient is a patient of its own. Where the table gives no split, patients are divided by
    ``fractions`` (train, val, test) and ``spec.seed``: by :func:`assign_splits`, or, with a column to ``stratify`` by,
    :func:`balance_splits`. Slides that are not labelled are for training, and so are the others of their patients.
    ``fallback_mpp`` and ``origin`` are for the rows that state none of their own. Overlap and the thinning of empty
    tiles are for training only. To ``anonymize``, slides and patients get neutral names, and the table ``key`` says
    whose they are (:mod:`preprocess.slides.naming`). Raises UserError if only some rows have a split, or if the key
    would lie in ``root``.
    """
    names = table["patient"].where(table["patient"].notna(), table[OUTPUT_NAME])
    patients = names.tolist()
    splits = table["split"].where(table["labelled"] | table["split"].notna(), "train")
    if table["split"].isna().all():
        is_dealt = ~names.isin(names[~table["labelled"]])
        dealt = _assigned(table[is_dealt], names[is_dealt].tolist(), fractions, spec.seed, stratify)
        splits = pd.Series("train", table.index)
        splits[is_dealt] = dealt
    elif splits.isna().any():
        raise UserError(
            f"no split is given for {table['slide'][splits.isna()].iloc[0]}",
            remedy="fill the column split for all slides, or leave it out",
        )
    check_patients(pd.DataFrame({"patient": patients, "split": splits}))
    files = [
        SlideFile(Path(slide), patient=patient, label=name)
        for slide, patient, name in zip(table["slide"], patients, table[OUTPUT_NAME], strict=True)
    ]
    named = anonymized(files) if anonymize else files
    if key is not None:
        write_key(key, files, named, root)
    plain = replace(spec, overlap=0.0, keep_empty=1.0, empty_ratio=None)
    return [
        SlideJob(
            slide=Path(row["slide"]),
            annotation=row["annotation"] and Path(row["annotation"]),
            mpp=row["mpp"],
            patient=str(file.patient),
            split=split,
            labelled=row["labelled"],
            root=root.absolute(),
            spec=spec if split == "train" else plain,
            classes=classes,
            cache_dir=None if cache_dir is None else cache_dir.absolute(),
            fallback_mpp=fallback_mpp,
            origin=check_origin(row["origin"] or origin),
            scan=_scan_file(row),
            reader=os.environ.get(READER_VARIABLE) or "auto",
            label=file.name,
            anonymized=anonymize,
        )
        for row, file, split in zip(slide_rows(table), named, splits, strict=True)
    ]


def tile_slides(
    jobs: Sequence[SlideJob],
    workers: int | None,
    *,
    engine: EngineName = "local",
    address: str | None = None,
    limit_s: float | None = None,
) -> tuple[list[TilingResult], int]:
    """Cut all slides that are not finished yet; the results in the order of ``jobs``, and how many were skipped.

    ``workers``, ``engine``, ``address`` and ``limit_s`` as in :func:`preprocess.jobs.run.run_cohort`. Slides that were
    cut with other options or from other files are cut again; until all are, there is no manifest.
    """
    records = {job: record for job in jobs if (record := finished_record(job)) is not None}
    pending = [job for job in jobs if job not in records]
    for job in pending:
        job.check_owner()
    if outdated := [job for job in pending if job.record_file.exists()]:
        note(f"{len(outdated)} slides were cut with other options or from other files: they are cut again")
        # The manifest of an earlier run lists tiles that are about to be replaced.
        remove_manifest(outdated[0].root)
    # Fewer slides than workers: the others help on the slides there are. On a cluster a slide has one CPU.
    spare = (workers or 1) // max(1, len(pending)) if engine == "local" else 1
    cut = partial(write_slide, threads=max(1, spare))
    results = run_cohort(cut, pending, workers, "cutting slides", engine=engine, address=address, limit_s=limit_s)
    made = {result.item: result for result in results}
    return [made.get(job) or JobResult(job, value=records[job]) for job in jobs], len(records)


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` -> (2, 8): the second of eight parts. Raises UserError where that is no part."""
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        part, parts = 0, 0
    if not 1 <= part <= parts:
        raise UserError(f"{text!r} is no part of a table", remedy="write I/N, from 1/N to N/N")
    return part, parts


def report_removed_slides(jobs: Sequence[SlideJob], root: Path, *, prune: bool) -> list[str]:
    """Say which slides were cut into ``root`` and left the table since; with ``prune``, remove what is there of them.

    Their tiles are in no manifest that is written from now on. Returns their names. Raises UserError where they have
    their own names, and those of ``jobs`` are neutral.
    """
    known = {job.name for job in jobs}
    found = {path.stem for path in (root / "slides").glob("*.json")}
    found |= {path.name for path in (root / "tiles").glob("*")}
    names = sorted(name for name in found - known if not name.startswith("."))
    if any(job.anonymized for job in jobs) and not prune and not all(map(is_neutral, names)):
        raise UserError(
            "slides under their own names are there", path=root, remedy="give another --output-dir, or --prune"
        )
    if names:
        what = "removed" if prune else "their tiles are not in the manifest, --prune removes them"
        note(f"{len(names)} slides of an earlier run are not in the table: {', '.join(names[:5])} ({what})")
    if names and prune:
        remove_manifest(root)  # it may list what is about to go
    for name in names if prune else []:
        (root / "slides" / f"{name}.json").unlink(missing_ok=True)
        (root / "masks" / f"{name}.jpg").unlink(missing_ok=True)
        shutil.rmtree(root / "tiles" / name, ignore_errors=True)
    return names


def write_manifest(results: Sequence[TilingResult], root: Path) -> Manifest:
    """Write the manifest of all slides that succeeded, the COCO files, and ``splits.csv`` (patient, split, num_slides).

    A manifest that is as it was is left alone (:meth:`preprocess.tiles.manifest.Manifest.write`). Raises UserError,
    and writes nothing, if a split that the jobs name has no tiles, or if there is no object to train on.
    """
    tiles, boxes, inputs = [], [], []
    labels: set[str] = set()
    for result in results:
        job, record = result.item, result.value
        if record is None:
            continue
        place = {"slide_path": job.slide_path, "patient": job.patient, "split": job.split, "labelled": job.labelled}
        tiles += [{**tile, **place} for tile in record["tiles"]]
        boxes += record["boxes"]
        labels |= set(record["labels"])
        inputs.append({"slide": job.name, **{key: record[key] for key in _INPUT_KEYS}})
    boxes = [{**box, "label": label} for box in boxes for label in spread_ignored(box["label"], labels)]
    jobs = [result.item for result in results]
    spec = min(jobs, key=lambda job: job.split != "train").spec
    manifest = Manifest(
        root=root,
        tiles=pd.DataFrame(tiles, columns=list(TILES_COLUMNS)).astype(TILES_COLUMNS),
        boxes=pd.DataFrame(boxes, columns=list(BOXES_COLUMNS)).astype(BOXES_COLUMNS),
        labels=sorted(labels),
        teacher_mpp=spec.teacher_mpp,
        student_mpp=spec.student_mpp,
        provenance={
            **software(),
            "parameters": {**asdict(spec), "classes": dict(jobs[0].classes.entries)},
            "inputs": inputs,
        },
        failed_slides=tuple(result.item.name for result in results if result.error),
    )
    _check_splits(manifest, {job.split for job in jobs})
    dealt = pd.DataFrame({"patient": [job.patient for job in jobs], "split": [job.split for job in jobs]})
    splits = dealt.groupby(["patient", "split"], sort=False).size().rename("num_slides").reset_index()

    def write_others(manifest: Manifest) -> None:
        write_csv(root / "splits.csv", splits)
        write_coco(manifest)

    manifest.write(root, write_others)
    return manifest


def _assigned(
    table: pd.DataFrame, patients: Sequence[str], fractions: Fractions, seed: int, stratify: str | None
) -> list[str]:
    if stratify is None:
        return assign_splits(patients, fractions, seed)
    if stratify not in table.columns:
        raise UserError(
            f"the slides table has no column {stratify!r} to stratify by", remedy=f"it has {', '.join(table.columns)}"
        )
    return balance_splits(patients, fractions, seed, table[stratify].tolist())


def _scan_file(row: Mapping[str, Any]) -> ScanFile | None:
    """The low-resolution scan that a row of the slides table names, if it does."""
    if row["student_slide"] is None:
        return None
    transform = row["student_transform"] and parse_transform(row["student_transform"])
    return ScanFile(Path(row["student_slide"]), row["student_mpp"], transform)


def _check_splits(manifest: Manifest, wanted: set[str]) -> None:
    remedy = "see the failed slides, the tissue threshold and the labels"
    for name in sorted(wanted):
        tiles = manifest.tiles[manifest.tiles["split"] == name]
        if tiles.empty:
            raise UserError(f"the split {name!r} has no tiles", remedy=remedy)
        if name == "train" and tiles["num_boxes"].sum() == 0:
            raise UserError("the split 'train' has no objects", remedy=remedy)

"""One slide's tile pairs on disk: complete or absent, and not made twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from preprocess.annotations import Annotation, read_annotations
from preprocess.errors import UserError
from preprocess.files import safe_name, sha256_of, write_json
from preprocess.images import encode_image
from preprocess.manifest import SCHEMA_VERSION
from preprocess.origin import to_slide_frame
from preprocess.registration import open_scan
from preprocess.slide import Slide
from preprocess.student_scan import ScanFile, StudentScan
from preprocess.tile_pairs import PairSpec, TilePair, iter_tile_pairs


@dataclass(frozen=True)
class SlideJob:
    """One slide to cut: its files, its place in the data set, and how.

    ``labels`` are the classes to keep (None: all); ``merged_label`` is the one name that they all get.
    ``fallback_mpp`` is for a slide that states none; ``origin`` is where its annotations count from
    (:func:`preprocess.origin.to_slide_frame`); ``scan`` is the slide's own low-resolution scan.
    """

    slide: Path
    annotation: Path | None
    mpp: float | None
    patient: str
    split: str
    root: Path
    spec: PairSpec
    labels: tuple[str, ...] | None = None
    merged_label: str | None = None
    fallback_mpp: float | None = None
    origin: str | None = None
    scan: ScanFile | None = None

    @property
    def name(self) -> str:
        """The slide's name in the manifest and in the output folder."""
        return safe_name(self.slide)

    @property
    def record_file(self) -> Path:
        """Written last: with it the slide is finished."""
        return self.root / "slides" / f"{self.name}.json"

    @property
    def tiles_folder(self) -> Path:
        """Where the slide's tiles are."""
        return self.root / "tiles" / self.name


def finished_record(job: SlideJob) -> dict[str, Any] | None:
    """The record of a slide that was cut before from the same files in the same way, with all its tiles; or None."""
    try:
        record = json.loads(job.record_file.read_text(encoding="utf-8"))
        if record["key"] != _key(job):
            return None
        files = [job.root / tile[side] for tile in record["tiles"] for side in ("teacher_file", "student_file")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if all(file.is_file() for file in files) else None


def write_slide(job: SlideJob) -> dict[str, Any]:
    """Cut ``job``'s slide, replacing what an earlier run left of it, and return its record.

    The tiles are made in a hidden folder, which is renamed when it is complete; the record follows.
    Raises UserError for a bad slide or annotation, OSError for a full disk.
    """
    if job.annotation is None:
        raise UserError(
            "no annotation is given", path=job.slide, remedy="fill the column annotation; [] in a file says: no objects"
        )
    part = job.tiles_folder.with_name(f".{job.name}.part")
    annotations, dropped = _select_labels(read_annotations(job.annotation), job)
    with (
        Slide.open(job.slide, job.mpp, fallback_mpp=job.fallback_mpp) as slide,
        open_scan(slide, job.scan) as scan,
    ):
        annotations = to_slide_frame(annotations, slide, job.origin)
        job.record_file.unlink(missing_ok=True)
        for folder in (part, job.tiles_folder):
            if folder.exists():
                shutil.rmtree(folder)
        try:
            tiles, boxes = _write_tiles(slide, annotations, job, part, scan)
            os.replace(part, job.tiles_folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        record = {
            "key": _key(job),
            "slide_sha256": sha256_of(job.slide),
            "annotation_sha256": sha256_of(job.annotation),
            "mpp": round(slide.mpp, 6),
            "mpp_xy": [round(value, 6) for value in slide.mpp_xy],
            "mpp_source": slide.mpp_source,
            "annotation_origin": job.origin,
            "student_scan": None if scan is None else scan.to_record(),
            "labels": dict(sorted(Counter(annotation.label for annotation in annotations).items())),
            "dropped_labels": dropped,
            "tiles": tiles,
            "boxes": boxes,
        }
    write_json(job.record_file, record)
    return record


def _write_tiles(
    slide: Slide, annotations: Sequence[Annotation], job: SlideJob, folder: Path, scan: StudentScan | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write all images of a slide into ``folder``; return the rows of the manifest's two tables."""
    tiles: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for side in ("teacher", "student"):
        (folder / side).mkdir(parents=True)
    for pair in iter_tile_pairs(slide, annotations, job.spec, scan):
        teacher, student = f"teacher/{pair.xy_name}.jpg", f"student/{pair.xy_name}.png"
        _write_bytes(folder / teacher, encode_image(pair.teacher, ".jpg"))
        _write_bytes(folder / student, encode_image(pair.student, ".png"))
        tiles.append(_tile_row(pair, slide, f"tiles/{job.name}/{teacher}", f"tiles/{job.name}/{student}", job.spec))
        boxes += _box_rows(pair)
    return tiles, boxes


def _tile_row(pair: TilePair, slide: Slide, teacher: str, student: str, spec: PairSpec) -> dict[str, Any]:
    region = pair.region
    return {
        "tile_id": pair.tile_id,
        "slide": slide.name,
        "x_l0": region.x,
        "y_l0": region.y,
        "width_l0": round(region.width, 3),
        "height_l0": round(region.height, 3),
        "slide_mpp": round(slide.mpp, 6),
        "tissue": round(pair.tissue, 4),
        "teacher_file": teacher,
        "teacher_width": spec.teacher_size.width,
        "teacher_height": spec.teacher_size.height,
        "student_file": student,
        "student_width": spec.student_size.width,
        "student_height": spec.student_size.height,
        "num_boxes": sum(not box.ignore for box in pair.boxes),
    }


def _box_rows(pair: TilePair) -> list[dict[str, Any]]:
    names = ("x0_l0", "y0_l0", "x1_l0", "y1_l0")
    return [
        {
            "tile_id": pair.tile_id,
            "label": box.label,
            **{name: round(value, 3) for name, value in zip(names, box.xyxy, strict=True)},
            "visible_fraction": round(box.visible_fraction, 4),
            "ignore": box.ignore,
        }
        for box in pair.boxes
    ]


def _select_labels(annotations: list[Annotation], job: SlideJob) -> tuple[list[Annotation], dict[str, int]]:
    """The annotations to use, renamed as the job says, and how many of which label are left out."""
    wanted = [a for a in annotations if job.labels is None or a.label in job.labels]
    dropped = Counter(a.label for a in annotations if job.labels is not None and a.label not in job.labels)
    if job.merged_label is not None:
        wanted = [replace(annotation, label=job.merged_label) for annotation in wanted]
    return wanted, dict(sorted(dropped.items()))


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        with path.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        # A failed write does not know its file, and the message should.
        error.filename = str(path)
        raise


def _key(job: SlideJob) -> str:
    """What a slide's tiles depend on. The slide counts by its size and time, since hashing it takes long."""
    status = job.slide.stat()
    parts = {
        "schema_version": SCHEMA_VERSION,
        "spec": asdict(job.spec),
        "mpp": job.mpp,
        "labels": sorted(job.labels) if job.labels is not None else None,
        "merged_label": job.merged_label,
        "slide": [job.name, status.st_size, status.st_mtime_ns],
        "fallback_mpp": job.fallback_mpp,
        "origin": job.origin,
        "scan": job.scan and [job.scan.path.name, job.scan.path.stat().st_mtime_ns, job.scan.mpp, job.scan.transform],
        "annotation": sha256_of(job.annotation) if job.annotation else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

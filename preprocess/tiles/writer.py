"""One slide's tile pairs on disk: complete or absent, and not made twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.annotations import Annotation, read_annotations
from preprocess.annotations.class_map import ALL, AS_ANNOTATED, ClassMap
from preprocess.base.errors import UserError, named
from preprocess.base.files import relative_path, safe_name, sha256_of, sync_folder, temporary_path, write_json
from preprocess.base.images import encode_image, encode_preview
from preprocess.base.parallel import map_in_order
from preprocess.base.provenance import codecs
from preprocess.slides.cache import local_copy
from preprocess.slides.files import file_states, slide_sha256
from preprocess.slides.naming import place_of, without_names
from preprocess.slides.registration import open_scan
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import ScanFile, StudentScan
from preprocess.tiles.boxes import remove_duplicates
from preprocess.tiles.manifest import SCHEMA_VERSION
from preprocess.tiles.mask_picture import mask_picture
from preprocess.tiles.pairs import PairSpec, PlannedTile, TilePair, TilePlan, plan_tiles

# One more whenever the same files and options give other tiles, or the record other fields.
_RECIPE = 6


@dataclass(frozen=True)
class SlideJob:
    """One slide to cut: its files, its place in the data set, and how; ``classes`` names the annotations.

    ``cache_dir`` is a local folder that the slide is copied to while it is read (None: read it where it is).
    ``fallback_mpp`` is for a slide that states none; ``origin`` is where its annotations count from
    (:func:`preprocess.annotations.origin.read_in_slide_frame`); ``scan`` is the slide's own low-resolution scan;
    ``reader`` is what the environment says of how to get pixels (:mod:`preprocess.slides.readers.tiff`). A job that is
    not ``labelled`` has no annotation that counts: nobody says what is on the slide. ``label`` is what outputs call the
    slide where that is not its own name; with ``anonymized`` they tell nothing of its files.
    """

    slide: Path
    annotation: Path | None
    mpp: float | None
    patient: str
    split: str
    root: Path
    spec: PairSpec
    classes: ClassMap = AS_ANNOTATED
    cache_dir: Path | None = None
    fallback_mpp: float | None = None
    origin: str | None = None
    scan: ScanFile | None = None
    reader: str = "auto"
    labelled: bool = True
    label: str | None = None
    anonymized: bool = False

    @property
    def name(self) -> str:
        """The slide's name in the manifest and in the output folder."""
        return self.label or safe_name(self.slide)

    @property
    def slide_path(self) -> str:
        """Where the slide lies, from the output folder; with ``anonymized`` a neutral name."""
        return f"{self.name}{self.slide.suffix.lower()}" if self.anonymized else relative_path(self.slide, self.root)

    @property
    def place(self) -> str | None:
        """A hash of where the slide lies; None with ``anonymized``, where it could be found by trying names."""
        return None if self.anonymized else place_of(self.slide)

    def as_written(self, error: str) -> str:
        """``error`` as outputs may state it: with ``anonymized``, without the names of the slide's files."""
        files = [self.slide, *([self.annotation] if self.annotation else []), *([self.scan.path] if self.scan else [])]
        return without_names(error, files, self.name) if self.anonymized else error

    def check_owner(self) -> None:
        """Raise UserError where what was cut under the slide's name is another slide: elsewhere, of other content."""
        try:
            found = json.loads(self.record_file.read_text(encoding="utf-8"))
            place, content = found["place"], found["slide_sha256"]
            is_another = place not in (None, self.place) and content != slide_sha256(self.slide)
        except (OSError, ValueError, KeyError, TypeError):
            return
        if is_another:
            raise UserError(
                f"{self.record_file} is of another slide of this name",
                path=self.slide,
                remedy="give another --output-dir, or rename the slide",
            )

    @property
    def record_file(self) -> Path:
        """Written last: with it the slide is finished."""
        return self.root / "slides" / f"{self.name}.json"

    @property
    def tiles_folder(self) -> Path:
        """Where the slide's tiles are."""
        return self.root / "tiles" / self.name

    @property
    def mask_file(self) -> Path:
        """The picture of the slide's tissue and tiles."""
        return self.root / "masks" / f"{self.name}.jpg"


def finished_record(job: SlideJob) -> dict[str, Any] | None:
    """The record of a slide that was cut before from the same files in the same way, with all its files; or None."""
    try:
        record = json.loads(job.record_file.read_text(encoding="utf-8"))
        if record["key"] != _key(job):
            return None
        wanted = [tile[side] for tile in record["tiles"] for side in ("teacher_file", "student_file")]
        there = _files_in(job.tiles_folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    complete = all(job.root / name in there for name in wanted) and job.mask_file.is_file()
    return record if complete else None


def _files_in(folder: Path) -> set[Path]:
    """All tiles of a slide: two listings, where asking for each file takes minutes on network storage."""
    return {side / name for side in (folder / "teacher", folder / "student") for name in os.listdir(side)}


def write_slide(job: SlideJob, threads: int = 1) -> dict[str, Any]:
    """Cut ``job``'s slide with ``threads`` threads, replacing what an earlier run left of it; return its record.

    All is made in a hidden folder, and moved when it is complete on disk, the record last. Raises UserError for a bad
    slide or annotation, or where one of their files changes meanwhile, OSError for a full disk.
    """
    key = _key(job)
    part = temporary_path(job.tiles_folder.parent)
    try:
        with open_job(job) as (slide, scan):
            annotations, plan, notes = plan_job(job, slide, scan)
            job.record_file.unlink(missing_ok=True)
            if job.tiles_folder.exists():
                shutil.rmtree(job.tiles_folder)
            tiles, boxes = _write_tiles(slide, scan, plan, job, part / "tiles", threads)
            _write_bytes(part / "mask.jpg", encode_preview(mask_picture(slide, plan)))
            record = {
                "key": key,
                "place": job.place,
                "slide_sha256": slide_sha256(slide.path),
                "annotation_sha256": sha256_of(_annotation_file(job)) if job.labelled else None,
                "mpp": round(slide.mpp, 6),
                "mpp_xy": [round(value, 6) for value in slide.mpp_xy],
                "mpp_source": slide.mpp_source,
                "annotation_origin": job.origin,
                "student_scan": _scan_record(job, scan),
                "labels": dict(sorted(Counter(a.label for a in annotations or () if a.label != ALL).items())),
                **notes,
                "median_um": plan.placement.median_um,
                "tissue_mm2": round(plan.tissue.area_um2() / 1e6, 4),
                "kinds": plan.counts(),
                "tiles": tiles,
                "boxes": boxes,
            }
        write_json(part / "record.json", record)
        sync_folder(part)
        if _key(job) != key:
            raise UserError(
                "changed while it was read", path=job.slide, remedy="run the same command again when it is complete"
            )
        _move(part / "tiles", job.tiles_folder)
        _move(part / "mask.jpg", job.mask_file)
        _move(part / "record.json", job.record_file)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


@contextmanager
def open_job(job: SlideJob) -> Iterator[tuple[Slide, StudentScan | None]]:
    """``job``'s slide, from the local cache if it has one, and the slide's own low-resolution scan."""
    with (
        local_copy(job.slide, job.cache_dir) as path,
        Slide.open(path, job.mpp, fallback_mpp=job.fallback_mpp) as slide,
        open_scan(slide, job.scan) as scan,
    ):
        yield slide, scan


def plan_job(
    job: SlideJob, slide: Slide, scan: StudentScan | None
) -> tuple[list[Annotation] | None, TilePlan, dict[str, dict[str, int]]]:
    """The annotations to use, under our names, the tiles, and for the record: what was left out, mended or is lost.

    There are no annotations (None) where the slide is not labelled. Raises UserError where annotations cannot be used
    or are those of another frame.
    """
    if not job.labelled:
        notes: dict[str, dict[str, int]] = {"dropped_labels": {}, "unmapped_labels": {}, "outlines": {}, "unused": {}}
        return None, plan_tiles(slide, None, job.spec, scan, name=job.name), notes
    read = read_annotations(_annotation_file(job), slide, job.origin)
    mapped = job.classes.apply(read)
    annotations = remove_duplicates(mapped.annotations, job.spec.same_iou)
    plan = plan_tiles(slide, annotations, job.spec, scan, name=job.name)
    with named(_annotation_file(job)):
        plan.placement.check(job.spec.max_misplaced)
    outlines = {
        "repaired": read.num_repaired,
        "drawn twice": len(mapped.annotations) - len(annotations),
        "off the slide": plan.placement.num_off_slide,
        "on glass": plan.placement.num_on_glass,
        "below 20 um": plan.placement.num_specks,
        "larger than a tile": plan.num_larger,
        "without a box": plan.num_without_box,
    }
    notes = {
        "dropped_labels": mapped.dropped,
        "unmapped_labels": mapped.unmapped,
        "outlines": outlines,
        "unused": dict(read.unused),
    }
    return annotations, plan, notes


def _annotation_file(job: SlideJob) -> Path:
    if job.annotation is None:
        raise UserError(
            "no annotation is given",
            path=job.slide,
            remedy="fill the column annotation ([] in a file: no objects), or write no in the column labelled",
        )
    return job.annotation


def _scan_record(job: SlideJob, scan: StudentScan | None) -> dict[str, Any] | None:
    if scan is None:
        return None
    name = {"file": f"{job.name}-student{scan.slide.path.suffix.lower()}"} if job.anonymized else {}
    return {**scan.to_record(), **name}


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _write_tiles(
    slide: Slide, scan: StudentScan | None, plan: TilePlan, job: SlideJob, folder: Path, threads: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write all images of a slide into ``folder``; return the rows of the manifest's two tables."""
    for side in ("teacher", "student"):
        (folder / side).mkdir(parents=True)

    def write(planned: PlannedTile) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        pair = planned.read(slide, job.spec, scan)
        teacher, student = f"teacher/{pair.xy_name}.jpg", f"student/{pair.xy_name}.png"
        for name, data in zip((teacher, student), encode_pair(pair), strict=True):
            _write_bytes(folder / name, data)
        place = f"tiles/{job.name}"
        return _tile_row(pair, slide, f"{place}/{teacher}", f"{place}/{student}", job), box_rows(pair)

    rows = list(map_in_order(write, plan.kept, threads))
    return [tile for tile, _ in rows], [box for _, boxes in rows for box in boxes]


def encode_pair(pair: TilePair) -> tuple[bytes, bytes]:
    """The teacher's tile as JPEG and the student's as PNG: what it loses is lost at its own resolution."""
    return encode_image(pair.teacher, ".jpg"), encode_image(pair.student, ".png")


def _tile_row(pair: TilePair, slide: Slide, teacher: str, student: str, job: SlideJob) -> dict[str, Any]:
    region, spec = pair.region, job.spec
    return {
        "tile_id": pair.tile_id,
        "slide": job.name,
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


def box_rows(tile: PlannedTile) -> list[dict[str, Any]]:
    """The boxes of ``tile`` as rows of the manifest."""
    names = ("x0_l0", "y0_l0", "x1_l0", "y1_l0")
    return [
        {
            "tile_id": tile.tile_id,
            "label": box.label,
            **{name: round(value, 3) for name, value in zip(names, box.xyxy, strict=True)},
            "visible_fraction": round(box.visible_fraction, 4),
            "ignore": box.ignore,
        }
        for box in tile.boxes
    ]


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        # A failed write does not know its file, and the message should.
        error.filename = str(path)
        raise


def _key(job: SlideJob) -> str:
    """What a slide's tiles depend on. The slide counts by sizes and times of its files, since hashing it takes long."""
    parts = {
        "schema_version": SCHEMA_VERSION,
        "recipe": _RECIPE,
        "codecs": codecs(),
        "reader": job.reader,
        "spec": asdict(job.spec),
        "mpp": job.mpp,
        "classes": job.classes.entries,
        "slide": [job.name, file_states(job.slide)],
        "fallback_mpp": job.fallback_mpp,
        "origin": job.origin,
        "scan": job.scan and [file_states(job.scan.path), job.scan.mpp, job.scan.transform],
        "annotation": sha256_of(job.annotation) if job.annotation and job.annotation.is_file() else None,
        "labelled": job.labelled,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

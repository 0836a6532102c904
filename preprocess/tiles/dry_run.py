"""What cutting a slide would give, without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from preprocess.annotations import Annotation
from preprocess.jobs.job_result import JobResult
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import StudentScan
from preprocess.tiles.pairs import (
    KEPT_KINDS,
    TILE_KINDS,
    PairSpec,
    TileKind,
    TilePlan,
    iter_tile_pairs,
    shown_kinds,
)
from preprocess.tiles.writer import SlideJob, encode_pair, finished_record, open_job, plan_job

# So many tiles of each slide are encoded to estimate the bytes of all.
_SAMPLES = 4


@dataclass(frozen=True)
class DryRun:
    """One slide: its mpp (um/px) and where that comes from, its tissue, what becomes of its tiles, boxes and bytes.

    ``kinds`` counts tiles as :meth:`preprocess.tiles.pairs.TilePlan.counts` does; ``num_bytes`` is estimated
    from a few tiles; ``outlines`` counts those that were mended or are lost. ``is_finished``: it was cut like this
    before, and would be skipped.
    """

    mpp: float
    mpp_source: str
    tissue_mm2: float
    kinds: dict[TileKind, int]
    num_objects: int
    outlines: dict[str, int]
    num_boxes: int
    num_bytes: int
    is_finished: bool


def dry_run_slide(job: SlideJob) -> DryRun:
    """What cutting one slide would give. Raises UserError as :func:`preprocess.tiles.writer.write_slide` would."""
    with open_job(job) as (slide, scan):
        annotations, plan, notes = plan_job(job, slide, scan)
        return DryRun(
            mpp=slide.mpp,
            mpp_source=slide.mpp_source,
            tissue_mm2=plan.tissue.area_um2() / 1e6,
            kinds=plan.counts(),
            num_objects=len(annotations or ()),
            outlines=notes["outlines"],
            num_boxes=sum(not box.ignore for tile in plan.kept for box in tile.boxes),
            num_bytes=_estimated_bytes(slide, annotations, job.spec, plan, scan),
            is_finished=finished_record(job) is not None,
        )


def dry_run_lines(results: Sequence[JobResult[SlideJob, DryRun]]) -> list[str]:
    """One line for each slide that can be cut, and one for all."""
    lines, dry_runs = [], []
    for result in results:
        dry_run, job = result.value, result.item
        if dry_run is None:
            continue
        dry_runs.append(dry_run)
        lines.append(
            f"{job.name} ({job.split}{', finished' if dry_run.is_finished else ''}): "
            f"{dry_run.mpp:.4g} um/px from {dry_run.mpp_source}; tissue {dry_run.tissue_mm2:.2f} mm2; "
            f"tiles: {_kinds(dry_run.kinds)}; "
            f"{dry_run.num_objects} objects in {dry_run.num_boxes} boxes{_lost(dry_run)}; "
            f"about {dry_run.num_bytes / 1e6:.3g} MB"
        )
    pending = [dry_run for dry_run in dry_runs if not dry_run.is_finished]
    kinds = {kind: sum(dry_run.kinds[kind] for dry_run in dry_runs) for kind in TILE_KINDS}
    lines.append(
        f"{len(pending)} slides to cut, {len(dry_runs) - len(pending)} finished, "
        f"{len(results) - len(dry_runs)} bad; "
        f"{sum(kinds[kind] for kind in KEPT_KINDS)} tile pairs to have ({_kinds(kinds)}), "
        f"{sum(dry_run.num_boxes for dry_run in dry_runs)} boxes; "
        f"about {sum(dry_run.num_bytes for dry_run in pending) / 1e9:.3g} GB to write"
    )
    return lines


def _lost(dry_run: DryRun) -> str:
    found = [f"{name} {count}" for name, count in dry_run.outlines.items() if count]
    return f" ({', '.join(found)})" if found else ""


def _kinds(counts: dict[TileKind, int]) -> str:
    words = {"object": "with objects", "left out": "empty and left out", "glass": "without tissue"}
    return ", ".join(f"{counts[kind]} {words.get(kind, kind)}" for kind in shown_kinds(counts))


def _estimated_bytes(
    slide: Slide, annotations: Sequence[Annotation] | None, spec: PairSpec, plan: TilePlan, scan: StudentScan | None
) -> int:
    """The bytes of all kept tiles, from ``_SAMPLES`` evenly spaced ones."""
    kept = plan.kept
    if not kept:
        return 0
    chosen = [kept[(2 * number + 1) * len(kept) // (2 * _SAMPLES)] for number in range(_SAMPLES)]
    pairs = iter_tile_pairs(slide, annotations, spec, replace(plan, tiles=chosen), scan)
    return round(sum(len(data) for pair in pairs for data in encode_pair(pair)) / _SAMPLES * len(kept))

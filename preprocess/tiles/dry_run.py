"""What cutting a slide would give, without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from preprocess.annotations import Annotation
from preprocess.jobs.job_result import Outcome
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import StudentScan
from preprocess.tiles.pairs import FATES, KEPT, PairSpec, TilePlan, iter_tile_pairs, plan_tiles
from preprocess.tiles.writer import SlideJob, encode_pair, finished_record, open_job, read_job_annotations

# So many tiles of each slide are encoded to estimate the bytes of all.
_SAMPLES = 4


@dataclass(frozen=True)
class Forecast:
    """One slide: its mpp (um/px) and where that comes from, its tissue, what becomes of its tiles, boxes and bytes.

    ``fates`` counts tiles as :meth:`preprocess.tiles.pairs.TilePlan.counts` does; ``num_bytes`` is estimated
    from a few tiles. ``is_finished``: it was cut like this before, and would be skipped.
    """

    mpp: float
    mpp_source: str
    tissue_mm2: float
    fates: dict[str, int]
    num_objects: int
    num_boxes: int
    num_bytes: int
    is_finished: bool


def forecast_slide(job: SlideJob) -> Forecast:
    """The forecast for one job. Raises UserError as :func:`preprocess.tiles.writer.write_slide` would."""
    with open_job(job) as (slide, scan):
        annotations, _ = read_job_annotations(job, slide)
        plan = plan_tiles(slide, annotations, job.spec, scan)
        return Forecast(
            mpp=slide.mpp,
            mpp_source=slide.mpp_source,
            tissue_mm2=plan.tissue.area_um2() / 1e6,
            fates=plan.counts(),
            num_objects=len(annotations),
            num_boxes=sum(not box.ignore for tile in plan.kept for box in tile.boxes),
            num_bytes=_estimated_bytes(slide, annotations, job.spec, plan, scan),
            is_finished=finished_record(job) is not None,
        )


def forecast_lines(outcomes: Sequence[Outcome[SlideJob, Forecast]]) -> list[str]:
    """One line for each slide that can be cut, and one for all."""
    lines, forecasts = [], []
    for outcome in outcomes:
        forecast, job = outcome.value, outcome.item
        if forecast is None:
            continue
        forecasts.append(forecast)
        lines.append(
            f"{job.name} ({job.split}{', finished' if forecast.is_finished else ''}): "
            f"{forecast.mpp:.4g} um/px from {forecast.mpp_source}; tissue {forecast.tissue_mm2:.2f} mm2; "
            f"tiles: {_fates(forecast.fates)}; {forecast.num_objects} objects in {forecast.num_boxes} boxes; "
            f"about {forecast.num_bytes / 1e6:.3g} MB"
        )
    pending = [forecast for forecast in forecasts if not forecast.is_finished]
    fates: dict[str, int] = {fate: sum(forecast.fates[fate] for forecast in forecasts) for fate in FATES}
    lines.append(
        f"{len(pending)} slides to cut, {len(forecasts) - len(pending)} finished, "
        f"{len(outcomes) - len(forecasts)} bad; "
        f"{sum(fates[fate] for fate in KEPT)} tile pairs to have ({_fates(fates)}), "
        f"{sum(forecast.num_boxes for forecast in forecasts)} boxes; "
        f"about {sum(forecast.num_bytes for forecast in pending) / 1e9:.3g} GB to write"
    )
    return lines


def _fates(counts: dict[str, int]) -> str:
    words = {"object": "with objects", "empty": "empty", "left out": "empty and left out", "glass": "without tissue"}
    return ", ".join(f"{counts[fate]} {words[fate]}" for fate in FATES)


def _estimated_bytes(
    slide: Slide, annotations: Sequence[Annotation], spec: PairSpec, plan: TilePlan, scan: StudentScan | None
) -> int:
    """The bytes of all kept tiles, from ``_SAMPLES`` evenly spaced ones."""
    kept = plan.kept
    if not kept:
        return 0
    chosen = [kept[(2 * number + 1) * len(kept) // (2 * _SAMPLES)] for number in range(_SAMPLES)]
    pairs = iter_tile_pairs(slide, annotations, spec, replace(plan, tiles=chosen), scan)
    return round(sum(len(data) for pair in pairs for data in encode_pair(pair)) / _SAMPLES * len(kept))

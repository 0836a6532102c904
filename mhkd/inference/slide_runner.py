"""One slide from file to results: detections, overlay, GeoJSON, CSV and a summary, each complete or absent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mhkd.inference.export.csv import write_csv
from mhkd.inference.export.geojson import write_geojson
from mhkd.inference.overlay import draw_overlay, write_overlay
from mhkd.inference.predictor import SlidePredictor, TilePlan
from mhkd.structures import SlideDetections
from preprocess.console import progress
from preprocess.files import write_json
from preprocess.slide import Slide

SUFFIXES = (".geojson", ".csv", ".overlay.png", ".json")

COARSE_FACTOR = 1.25  # a slide with pixels larger than the model's by more than this must be enlarged to be read
_PLURALS = {"glomerulus": "glomeruli"}


@dataclass(frozen=True)
class SlideResult:
    """What was found in one slide. ``summary`` is plain JSON: file names, no paths, nothing of the slide's header."""

    name: str
    detections: SlideDetections
    summary: dict[str, Any]

    def sentence(self) -> str:
        """The result in plain words, on one line."""
        area_mm2 = self.summary["tissue_mm2"]
        if not self.summary["tiles"]:
            return f"{self.name}: no tissue found, so there was nothing to search; the outputs are empty"
        counts = {name.lower(): count for name, count in self.summary["detections"]["by_class"].items()}
        found = ", ".join(
            f"{count} {_PLURALS.get(name, name) if count != 1 else name}" for name, count in counts.items()
        )
        found = found if len(self.detections) else f"no {' or '.join(counts)}"
        density = f", {self.summary['density_per_mm2']:.2f} per mm2" if len(self.detections) and area_mm2 else ""
        return (
            f"{self.name}: found {found} with a score of {self.summary['score_thresh']:g} or more "
            f"in {area_mm2:.2f} mm2 of tissue{density} ({self.summary['seconds']:.1f} s)"
        )


def run_slide(
    path: str | Path,
    predictor: SlidePredictor,
    output_dir: str | Path,
    *,
    mpp: float | None = None,
    score_thresh: float = 0.5,
    origin: Mapping[str, Any],
) -> SlideResult:
    """Search the slide at ``path`` and write ``<output_dir>/<slide name><suffix>`` for each of ``SUFFIXES``.

    mpp: micrometres per level-0 pixel where the file does not say (it overrides what the file says). Detections below
    ``score_thresh`` are left out after merging. origin: what the summary tells of the model and the software. The
    summary is written last: where it lies, the other files are complete and of the same run. Raises UserError or
    OSError.
    """
    start = time.perf_counter()
    with Slide.open(path, mpp=mpp) as slide:
        plan = predictor.plan(slide)
        with progress((), total=len(plan.tiles), description=slide.name, unit="tile") as bar:
            found = predictor.predict(slide, plan, advance=bar.update)
        found = found.select(found.scores >= score_thresh)
        overlay = draw_overlay(slide, found)
        seconds = time.perf_counter() - start
        summary = _summary(slide, found, plan, predictor, score_thresh, seconds) | dict(origin)
        result = SlideResult(slide.name, found, summary)
        origin_l0 = (slide.region.x, slide.region.y)
    files = {suffix: Path(output_dir) / f"{result.name}{suffix}" for suffix in SUFFIXES}
    files[".json"].unlink(missing_ok=True)
    write_geojson(files[".geojson"], found, slide_name=result.name, mpp=summary["mpp"], origin_l0=origin_l0)
    write_csv(files[".csv"], found, slide_name=result.name, mpp=summary["mpp"])
    write_overlay(files[".overlay.png"], overlay)
    write_json(files[".json"], summary)
    return result


def _summary(
    slide: Slide,
    found: SlideDetections,
    plan: TilePlan,
    predictor: SlidePredictor,
    score_thresh: float,
    seconds: float,
) -> dict[str, Any]:
    area_mm2 = plan.tissue_um2 / 1e6
    warnings = []
    if slide.mpp > COARSE_FACTOR * predictor.detector.input_mpp:
        warnings.append(
            f"the slide has {slide.mpp:g} um/px, coarser than the {predictor.detector.input_mpp:g} um/px "
            "of the model: expect less"
        )
    if "estimate" in slide.mpp_source:
        warnings.append(f"{slide.mpp:g} um/px is an estimate ({slide.mpp_source}): state it with --mpp if you know it")
    return {
        "slide": slide.path.name,
        "size_l0": [slide.size.width, slide.size.height],
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "detections": {
            "total": len(found),
            "by_class": {name: int((found.labels == i).sum()) for i, name in enumerate(found.class_names)},
        },
        "score_thresh": score_thresh,
        "tissue_mm2": round(area_mm2, 4),
        "density_per_mm2": round(len(found) / area_mm2, 4) if area_mm2 else None,
        "tiles": len(plan.tiles),
        "seconds": round(seconds, 2),
        "warnings": warnings,
        "settings": {
            "input_mpp": predictor.detector.input_mpp,
            "tile_px": predictor.tile_px,
            "overlap": predictor.overlap,
            "batch_size": predictor.batch_size,
            "min_tissue": predictor.min_tissue,
            "merge_rule": predictor.merge_rule,
        },
    }

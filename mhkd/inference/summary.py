"""The JSON of a slide, the last of its files to be written: what other programs may rely on (docs/inference.md)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from mhkd.inference.fragments import TissueFragments
from mhkd.inference.tile_plan import TilePlan
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Size, area_um2
from preprocess.slides.slide import Slide

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:  # whoever reads summaries needs no torch
    from mhkd.inference.predictor import SlidePredictor

SCHEMA = "mhkd-slide/1"
SUFFIX = ".json"

COARSE_FACTOR = 1.25  # a slide with pixels larger than the model's by more than this must be enlarged to be read


def search_summary(
    slide: Slide,
    found: SlideDetections,
    plan: TilePlan,
    predictor: SlidePredictor,
    *,
    score_thresh: float,
    score_thresh_origin: str,
    unreadable_l0: np.ndarray,
    seconds: float,
) -> dict[str, Any]:
    """What the search of a slide gave, as plain JSON; nothing of the slide's name or header.

    Args:
        found: the detections that score enough, boxes in level-0 pixels.
        score_thresh: the score that is enough.
        score_thresh_origin: where that number comes from.
        unreadable_l0: (M, 4) xyxy in level-0 pixels, boxes that may overlap.
        seconds: that the search took.
    """
    tissue_mm2 = plan.tissue.area_um2() / 1e6
    unreadable_mm2, unreadable_tissue_mm2 = _unreadable_mm2(plan, slide, unreadable_l0)
    searched_mm2 = max(0.0, tissue_mm2 - unreadable_tissue_mm2)
    return {
        "size_l0": [slide.size.width, slide.size.height],
        "region_l0": [slide.region.x, slide.region.y, slide.region.width, slide.region.height],
        "mpp": slide.mpp,
        "mpp_xy": list(slide.mpp_xy),
        "mpp_source": slide.mpp_source,
        "detections": {
            "total": len(found),
            "by_class": {name: int((found.labels == i).sum()) for i, name in enumerate(found.class_names)},
        },
        "score_thresh": score_thresh,
        "score_thresh_origin": score_thresh_origin,
        "tissue_mm2": round(tissue_mm2, 4),
        "density_per_mm2": round(len(found) / searched_mm2, 4) if searched_mm2 else None,
        "fragments": TissueFragments.of(plan.tissue).summary(found),
        "unreadable_mm2": round(unreadable_mm2, 4),
        "unreadable_tissue_mm2": round(unreadable_tissue_mm2, 4),
        "unreadable_l0": unreadable_l0.round(2).tolist(),
        "tiles": len(plan.tiles),
        "seconds": round(seconds, 2),
        "peak_memory_mb": peak_memory_mb(),
        "warnings": _warnings(slide, predictor.detector.input_mpp, unreadable_mm2, unreadable_tissue_mm2),
        "settings": predictor.settings,
    }


def iter_summaries(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The summaries of all finished slides in ``folder``, by name; other JSON files are passed over."""
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        if (summary := read_summary(path)) is not None:
            yield summary


def read_summary(path: str | Path) -> dict[str, Any] | None:
    """The summary at ``path``; None where there is none, or something else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("schema") == SCHEMA else None


def peak_memory_mb() -> int | None:
    """The most memory that this process ever held, in megabytes: with libraries, model and all its slides so far.

    None where the system does not tell, as on Windows.
    """
    try:  # a process that another one started inherits the peak of that one in ru_maxrss, but not here
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return math.ceil(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)
    except (OSError, LookupError):
        if resource is None:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return math.ceil(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def _unreadable_mm2(plan: TilePlan, slide: Slide, boxes_l0: np.ndarray) -> tuple[float, float]:
    """The area that ``boxes_l0`` cover, and that of the tissue in it, which is exact to the pixels of the mask."""
    if not len(boxes_l0):
        return 0.0, 0.0
    tissue, (height, width) = plan.tissue, plan.tissue.mask.shape
    covered = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in tissue.region.to_px(boxes_l0, Size(width, height)).round().astype(int).tolist():
        covered[max(0, y0) : y1, max(0, x0) : x1] = True
    tissue_l0 = float((covered & tissue.mask).mean()) * tissue.region.area
    area_l0 = float(shapely.union_all(shapely.box(*boxes_l0.T)).area)
    return area_um2(area_l0, slide.mpp) / 1e6, area_um2(tissue_l0, slide.mpp) / 1e6


def _warnings(slide: Slide, input_mpp: float, unreadable_mm2: float, unreadable_tissue_mm2: float) -> list[str]:
    warnings = list(slide.remarks)
    if slide.mpp > COARSE_FACTOR * input_mpp:
        warnings.append(
            f"the slide has {slide.mpp:g} um/px, coarser than the {input_mpp:g} um/px of the model: expect less"
        )
    if "estimate" in slide.mpp_source:
        warnings.append(f"{slide.mpp:g} um/px is an estimate ({slide.mpp_source}): state it with --mpp if you know it")
    if unreadable_mm2:
        warnings.append(
            f"{unreadable_mm2:.3g} mm2 could not be read and were not searched, {unreadable_tissue_mm2:.3g} mm2 of "
            "them tissue: what lies there is not counted"
        )
    return warnings

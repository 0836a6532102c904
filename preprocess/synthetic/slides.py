"""From a specification to a slide file with its outlines."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from preprocess.base.files import write_text
from preprocess.synthetic import artefacts, glomeruli, lookalikes
from preprocess.synthetic.fields import NOISE_ROWS, tiled_noise
from preprocess.synthetic.parenchyma import paint_ground
from preprocess.synthetic.patch import Patch
from preprocess.synthetic.placement import DISTRACTORS, GLOMERULI, Placed, place_structures
from preprocess.synthetic.settings import Difficulty, SlideSpec
from preprocess.synthetic.shapes import sample_contour
from preprocess.synthetic.stain import make_stain
from preprocess.synthetic.svs import write_plain_tiff, write_svs
from preprocess.synthetic.tissue import Tissue, make_tissue

_PAINTERS = {
    "glomerulus": glomeruli.paint_glomerulus,
    "sclerotic": glomeruli.paint_sclerotic,
    "lymphoid": lookalikes.paint_lymphoid,
    "tubule_cluster": lookalikes.paint_tubule_cluster,
    "cast": lookalikes.paint_cast,
    "artery": lookalikes.paint_artery,
    "arteriole": lookalikes.paint_arteriole,
    "vein": lookalikes.paint_vein,
}
_LOOKS_LIKE = {"lymphoid": "glomerulus", "tubule_cluster": "glomerulus", "cast": "sclerotic", "artery": "sclerotic"}
_SMALLEST_SHARE = 0.35
_NAMESPACE = uuid.UUID("6d686b64-0000-5000-8000-64656d6f0001")
_GLOMERULUS_COLOUR = [46, 160, 67]


@dataclass(frozen=True)
class DemoSlide:
    """A painted slide: level 0 as uint8 RGB, and what lies where (outlines in um)."""

    image: np.ndarray
    tissue: Tissue
    structures: list[Placed]


def make_slide(spec: SlideSpec, folder: Path) -> Path:
    """Paint ``spec`` and write ``slides/<file>`` and ``annotations/<name>.geojson`` under ``folder``.

    Returns the path of the slide. Both files are atomic; the slide is written last, so that it exists only
    where its annotation does.
    """
    slide = paint_slide(spec)
    write_text(annotation_path(spec, folder), json.dumps(outlines_geojson(spec, slide)) + "\n")
    path = slide_path(spec, folder)
    if spec.flavour == "svs":
        return write_svs(path, slide.image, mpp=spec.mpp, objective_power=20)
    return write_plain_tiff(path, slide.image)


def slide_path(spec: SlideSpec, folder: Path) -> Path:
    """Where ``make_slide`` puts the slide."""
    return folder / "slides" / spec.file_name


def annotation_path(spec: SlideSpec, folder: Path) -> Path:
    """Where ``make_slide`` puts the outlines."""
    return folder / "annotations" / f"{spec.name}.geojson"


def paint_slide(spec: SlideSpec) -> DemoSlide:
    """Paint ``spec`` in memory."""
    layout, ground_rng, stain_rng, flaw_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(spec.seed).spawn(4)
    )
    width, height = spec.size_px
    tissue = make_tissue(layout, spec.kind, (width * spec.mpp, height * spec.mpp))
    structures = place_structures(layout, tissue, spec)
    ground = paint_ground(ground_rng, tissue, structures, (height // 2, width // 2), 2 * spec.mpp, spec.look)
    materials = cv2.resize(ground.image, (width, height), interpolation=cv2.INTER_LINEAR)
    px_per_um = 1 / spec.mpp
    ground.nuclei.draw(materials, px_per_um)
    for placed in structures:
        _paint_structure(materials, placed, spec)
    artefacts.tear_and_fold(flaw_rng, materials, spec, tissue)
    materials = _cut_out(materials, tissue, px_per_um)
    _add_texture(flaw_rng, materials)
    image = make_stain(stain_rng, spec.stain, spec.look.stain_spread).develop(materials)
    artefacts.scan(flaw_rng, image, spec, tissue)
    return DemoSlide(image, tissue, structures)


def outlines_geojson(spec: SlideSpec, slide: DemoSlide) -> dict[str, Any]:
    """QuPath GeoJSON of the glomeruli in level-0 px, clipped to the tissue as an annotator would."""
    pieces = unary_union([Polygon(outline).buffer(0) for outline in slide.tissue.outlines])
    features = []
    for index, placed in enumerate(slide.structures):
        if placed.kind not in GLOMERULI:
            continue
        whole = Polygon(placed.outline).buffer(0)
        visible = _largest(whole.intersection(pieces))
        if visible is None or visible.area < _SMALLEST_SHARE * whole.area:
            continue
        ring = np.round(np.asarray(visible.exterior.coords) / spec.mpp, 1).tolist()
        state = "sclerotic" if placed.kind == "sclerotic" else "open"
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(_NAMESPACE, f"{spec.digest}/{index}")),
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": "Glomerulus", "color": _GLOMERULUS_COLOUR},
                    "metadata": {"state": state},
                },
            }
        )
    return {"type": "FeatureCollection", "spec": spec.digest, "features": features}


def _largest(geometry: BaseGeometry) -> Polygon | None:
    parts = [part for part in getattr(geometry, "geoms", [geometry]) if isinstance(part, Polygon) and not part.is_empty]
    return max(parts, key=lambda part: part.area, default=None)


def _paint_structure(materials: np.ndarray, placed: Placed, spec: SlideSpec) -> None:
    """Paint one structure over the ground, cut at the border of the slide."""
    patch = Patch.around(placed.outline, 1 / spec.mpp, placed.seed)
    image = _PAINTERS[placed.kind](patch, spec.difficulty)
    if placed.kind in DISTRACTORS:
        target = _typical_amounts(_LOOKS_LIKE[placed.kind])
        image = lookalikes.match_stain(image, patch.mask, target, spec.difficulty.colour_match)
    if placed.kind in DISTRACTORS + GLOMERULI:
        image = lookalikes.fade(image, patch.mask, spec.difficulty.contrast_loss)
    left, top = patch.origin_px
    bottom, right = top + patch.shape[0], left + patch.shape[1]
    rows = slice(max(0, top), min(bottom, materials.shape[0]))
    columns = slice(max(0, left), min(right, materials.shape[1]))
    cut = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    view = materials[rows, columns]
    view[patch.mask[cut]] = image[cut][patch.mask[cut]]


@cache
def _typical_amounts(kind: str) -> np.ndarray:
    """Mean amounts of the materials over a few glomeruli of one kind, the target of ``match_stain``."""
    means = []
    for seed in range(6):
        patch = Patch.around(sample_contour(np.random.default_rng(seed), "Normal", 150.0) + 200, 2.0, seed)
        means.append(_PAINTERS[kind](patch, Difficulty())[patch.mask].mean(axis=0))
    return np.mean(means, axis=0)


def _cut_out(materials: np.ndarray, tissue: Tissue, px_per_um: float) -> np.ndarray:
    """``materials`` with nothing left outside the tissue."""
    inside = np.zeros(materials.shape[:2], np.uint8)
    for outline in tissue.outlines:
        cv2.fillPoly(inside, [np.round(outline * px_per_um * 16).astype(np.int32)], 255, shift=4)
    return cv2.bitwise_and(materials, materials, mask=inside)


def _add_texture(rng: np.random.Generator, materials: np.ndarray) -> None:
    """Fine grain of every stained structure, in proportion to how much there is; in place, block by block."""
    shape = (NOISE_ROWS, materials.shape[1])
    grain = 1 + 0.10 * tiled_noise(rng, shape, 0.8) + 0.05 * tiled_noise(rng, shape, 2.2)
    factor = cv2.merge([np.clip(grain * 128, 0, 255).astype(np.uint8)] * 3)
    for top in range(0, materials.shape[0], NOISE_ROWS):
        block = materials[top : top + NOISE_ROWS]
        cv2.multiply(block, factor[: len(block)], dst=block, scale=1 / 128)

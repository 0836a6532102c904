"""Small demo slides from end to end: bytes, outlines, tissue, stains."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from shapely.geometry import Polygon, shape

from preprocess.base.files import sha256_of
from preprocess.synthetic.placement import DISTRACTORS, GLOMERULI
from preprocess.synthetic.settings import Difficulty, Look, SlideSpec
from preprocess.synthetic.slides import DemoSlide, annotation_path, make_slide, outlines_geojson, paint_slide

TINY = SlideSpec("tiny", "P1", "train", seed=3, size_px=(2560, 2048), glomeruli=(4, 5))
CORES = dataclasses.replace(TINY, name="cores", kind="cores", stain="HE", seed=4)


@pytest.fixture(scope="module", params=[TINY, CORES], ids=["wedge-PAS", "cores-HE"])
def painted(request: pytest.FixtureRequest) -> tuple[SlideSpec, DemoSlide]:
    return request.param, paint_slide(request.param)


def outlines_l0(spec: SlideSpec, slide: DemoSlide) -> list[Polygon]:
    return [shape(feature["geometry"]) for feature in outlines_geojson(spec, slide)["features"]]


def test_every_glomerulus_is_outlined_once(painted: tuple[SlideSpec, DemoSlide]) -> None:
    spec, slide = painted
    placed = [structure for structure in slide.structures if structure.kind in GLOMERULI]
    outlines = outlines_l0(spec, slide)
    assert 3 <= len(outlines) <= len(placed) <= 5
    assert all(outline.is_valid for outline in outlines)
    assert all(any(outline.contains(Polygon(p.outline / spec.mpp).centroid) for p in placed) for outline in outlines)


def test_outlines_lie_in_the_tissue(painted: tuple[SlideSpec, DemoSlide]) -> None:
    spec, slide = painted
    stained = slide.image.min(axis=2) < 215
    for outline in outlines_l0(spec, slide):
        x0, y0, x1, y1 = (int(value) for value in outline.bounds)
        assert 0 <= x0 < x1 <= spec.size_px[0]
        assert 0 <= y0 < y1 <= spec.size_px[1]
        assert stained[y0:y1, x0:x1].mean() > 0.4
    assert stained[:40].mean() < 0.02, "glass at the edge of the slide"


def test_lookalikes_never_overlap_glomeruli(painted: tuple[SlideSpec, DemoSlide]) -> None:
    _, slide = painted
    glomeruli = [Polygon(s.outline).buffer(0) for s in slide.structures if s.kind in GLOMERULI]
    others = [Polygon(s.outline).buffer(0) for s in slide.structures if s.kind in DISTRACTORS]
    assert others
    assert all(not one.intersects(other) for one in glomeruli for other in others)


def test_glomeruli_lie_in_the_cortex(painted: tuple[SlideSpec, DemoSlide]) -> None:
    _, slide = painted
    centres = np.array([s.centre for s in slide.structures if s.kind in GLOMERULI])
    assert slide.tissue.at(slide.tissue.cortex & slide.tissue.mask, centres).all()


def test_a_slide_and_its_outlines_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        make_slide(TINY, tmp_path / folder)
    for file in (f"slides/{TINY.file_name}", f"annotations/{TINY.name}.geojson"):
        assert sha256_of(tmp_path / "one" / file) == sha256_of(tmp_path / "two" / file)
    with openslide.OpenSlide(tmp_path / "one" / "slides" / TINY.file_name) as slide:
        assert slide.dimensions == TINY.size_px
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(TINY.mpp)


def test_the_annotation_is_what_qupath_reads(tmp_path: Path) -> None:
    path = make_slide(dataclasses.replace(TINY, flavour="tiff"), tmp_path)
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties
    collection = json.loads(annotation_path(TINY, tmp_path).read_text())
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] == "Glomerulus"
        assert feature["geometry"]["coordinates"][0][0] == feature["geometry"]["coordinates"][0][-1]
    assert len({feature["id"] for feature in collection["features"]}) == len(collection["features"])


def test_another_seed_stain_or_difficulty_is_another_slide() -> None:
    variants = [
        TINY,
        dataclasses.replace(TINY, seed=5),
        dataclasses.replace(TINY, stain="HE"),
        dataclasses.replace(TINY, difficulty=Difficulty(colour_match=0.2)),
    ]
    assert len({spec.digest for spec in variants}) == len(variants)
    assert TINY.digest == dataclasses.replace(TINY).digest


def test_stain_matching_brings_lookalikes_to_the_colour_of_glomeruli() -> None:
    def colour_gap(match: float) -> float:
        spec = dataclasses.replace(
            TINY, difficulty=Difficulty(colour_match=match, artefact_rate=0, sclerotic_fraction=0, noise_levels=0)
        )
        slide = paint_slide(spec)
        means: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for placed in slide.structures:
            if placed.kind in ("glomerulus", "lymphoid"):
                x, y = (placed.centre / spec.mpp).astype(int)
                middle = slide.image[y - 60 : y + 60, x - 60 : x + 60]
                means[placed.kind == "glomerulus"].append(middle.mean(axis=(0, 1)))
        return float(np.abs(np.mean(means[True], axis=0) - np.mean(means[False], axis=0)).max())

    assert colour_gap(1.0) < colour_gap(0.0)


def test_taller_epithelium_closes_the_lumina() -> None:
    def share_of_light(look: Look) -> float:
        slide = paint_slide(dataclasses.replace(TINY, size_px=(1280, 1024), look=look))
        height, width = slide.image.shape[:2]
        middle = slide.image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
        return float((middle.min(axis=2) > 215).mean())

    closed, usual, open_ = (share_of_light(Look(wall_scale=scale)) for scale in (2.0, 1.0, 0.6))
    assert closed < usual - 0.02 < open_ - 0.04

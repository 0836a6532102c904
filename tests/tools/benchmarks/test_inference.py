from __future__ import annotations

import json

import numpy as np

from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_svs
from tests.blobs import draw, write_annotations, write_blob_slide
from tools.benchmarks import inference as benchmark_inference
from tools.benchmarks.contestants.large_slide import make_large_slide
from tools.benchmarks.contestants.whole_slide import bytes_read, bytes_stored


def test_contestants_take_turns_and_their_figures_are_written(capsys, checkpoint, tmp_path):
    slide = write_blob_slide(tmp_path / "blobs.svs")
    annotation, figures = write_annotations(tmp_path / "blobs.geojson"), tmp_path / "figures.json"
    options = ["--repeats", "1", "--annotation", str(annotation), "--bytes", "--memory", "--output-json", str(figures)]
    assert benchmark_inference.main([str(slide), "--model", f"student={checkpoint}", *options]) == 0
    out = capsys.readouterr().out
    written = json.loads(figures.read_text())
    assert set(written["costs"]) == {"student whole", "student model", "student one-by-one"}
    assert 0 <= written["scores"]["student whole"]["AP"] <= 100
    assert written["peak_mb"]["student"] > 100
    assert "| student model |" in out
    assert "bytes read by tiff" in out


def test_bytes_are_those_of_the_pixels_that_are_read(tmp_path):
    """Of the whole file, for a slide without lower levels; less of one whose coarse level is read."""
    path = write_svs(tmp_path / "a.svs", draw(), mpp=0.5, downsamples=())
    pyramid = write_svs(tmp_path / "b.svs", draw(), mpp=0.5)
    for reader in ("openslide", "tiff"):
        assert bytes_read(path, 0.5, reader) > 0.5 * path.stat().st_size
        assert 0 < bytes_read(pyramid, 2.0, reader) < 0.5 * bytes_read(pyramid, 0.5, reader)
    fine, coarse, coarsest = bytes_stored(pyramid).values()
    assert list(bytes_stored(pyramid)) == ["0.5", "2", "8"]
    assert fine > coarse > coarsest
    assert fine + coarse + coarsest < pyramid.stat().st_size


def test_the_large_slide_is_made_of_fields_and_its_outlines_lie_on_glomeruli(tmp_path):
    path = tmp_path / "large.svs"
    outlines = json.loads(make_large_slide(path, side=2, field_px=3072).read_text())
    with Slide.open(path) as slide:
        assert (slide.size, slide.mpp) == (Size(6144, 6144), 0.25)
        rings = [np.array(feature["geometry"]["coordinates"][0]) for feature in outlines["features"]]
        assert {tuple((ring.mean(axis=0) // 3072).astype(int)) for ring in rings} >= {(0, 0), (1, 1)}
        for ring in rings:
            (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
            pixels = slide.read(Region(left, top, right - left, bottom - top), Size(32, 32))
            assert pixels.mean() < 230  # tissue, not glass
    assert {file.name for file in tmp_path.iterdir()} == {"large.svs", "large.geojson"}

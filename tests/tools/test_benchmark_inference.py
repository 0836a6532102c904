from __future__ import annotations

import json

from preprocess.synthetic.svs import write_svs
from tests.blobs import draw, write_annotations, write_blob_slide
from tools import benchmark_inference
from tools.contestants.whole_slide import bytes_read


def test_contestants_take_turns_and_their_figures_are_written(capsys, checkpoint, tmp_path):
    slide = write_blob_slide(tmp_path / "blobs.svs")
    annotation, figures = write_annotations(tmp_path / "blobs.geojson"), tmp_path / "figures.json"
    options = ["--repeats", "1", "--annotation", str(annotation), "--bytes", "--memory", "--output-json", str(figures)]
    assert benchmark_inference.main([str(slide), "--model", f"student={checkpoint}", *options]) == 0
    out = capsys.readouterr().out
    written = json.loads(figures.read_text())
    assert set(written["costs"]) == {"student whole", "student model"}
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

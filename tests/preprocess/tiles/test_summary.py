from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from preprocess.base.images import write_image
from preprocess.jobs.job_result import JobResult
from preprocess.tiles import summary
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.summary import COLUMNS, summary_lines, write_summary
from preprocess.tiles.writer import SlideJob
from tests.pages import Page

EVIL = "<script>alert('x')</script> & \"quotes\""


def result(root, name, *, error=None, label="Glomerulus", patient="p"):
    spec = PairSpec()
    job = SlideJob(Path(f"{name}.svs"), Path("a.geojson"), None, patient, "train", root, spec)
    if error:
        return JobResult(job, error=error)
    write_image(job.mask_file, np.full((300, 600, 3), (200, 100, 150), np.uint8))
    box = {"label": label}
    record = {
        "mpp": 0.5,
        "mpp_source": "given",
        "median_um": 150.0,
        "student_scan": {"source": "given", "correlation": 0.91, "residual_px": 0.2} if name == "a" else None,
        "tissue_mm2": 1.5,
        "labels": {label: 2},
        "dropped_labels": {"Tubule": 3},
        "unmapped_labels": {},
        "outlines": {"repaired": 0, "on glass": 1},
        "unused": {"point": 2},
        "kinds": {"object": 1, "empty": 1, "unlabelled": 0, "left out": 4, "glass": 5},
        "tiles": [{}, {}],
        "boxes": [{**box, "ignore": False}, {**box, "ignore": True}],
    }
    return JobResult(job, value=record)


def test_the_table(tmp_path):
    write_summary([result(tmp_path, "a"), result(tmp_path, "b", error="b.svs: broken (copy it again)")], tmp_path)
    table = pd.read_csv(tmp_path / "summary.csv", dtype=str, keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    a, b = table.to_dict("records")
    assert (a["slide"], a["status"], a["tiles"], a["boxes"], a["boxes_to_ignore"]) == ("a", "done", "2", "1", "1")
    assert (a["labels"], a["labels_left_out"], a["items_not_used"]) == ("Glomerulus 2", "Tubule 3", "point 2")
    assert a["mpp_source"] == "given"
    assert a["student_scan"] == "given: correlation 0.91, 0.2 px apart"
    assert (b["status"], b["reason"], b["tiles"]) == ("failed", "b.svs: broken (copy it again)", "")


def test_the_text(tmp_path):
    lines = summary_lines([result(tmp_path, "a"), result(tmp_path, "b", patient="q")])
    assert lines == [
        "train: 2 patients, 2 slides, 4 tiles (object 2, empty 2, left out 8, glass 10), boxes: Glomerulus 2",
        "mpp: given (2 slides)",
        "labels left out: Tubule 6",
        "outlines: on glass 2",
        "items of annotation files that are no objects: point 4",
    ]
    assert summary_lines([]) == []


def test_the_page_stands_alone_and_escapes_everything(tmp_path):
    results = [result(tmp_path, "a", label=EVIL, patient=EVIL), result(tmp_path, "b", error=EVIL)]
    write_summary(results, tmp_path)
    text = (tmp_path / "summary.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 3
    pictures = [link for link in page.links if link not in page.outside]
    assert page.outside == ["masks/", "masks/a.jpg"]
    assert (tmp_path / "masks" / "a.jpg").is_file()
    data = np.frombuffer(base64.b64decode(pictures[0].split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (130, 260, 3)
    # Failed slides first.
    assert [row.split("|")[0] for row in page.rows[1:]] == ["b", "a"]


def test_very_many_slides_do_not_make_a_huge_page(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "_MAX_THUMBNAILS", 2)
    write_summary([result(tmp_path, str(number)) for number in range(5)], tmp_path)
    assert Page((tmp_path / "summary.html").read_text()).tags.count("img") == 2


def test_a_slide_without_a_mask_picture_has_a_row(tmp_path):
    made = result(tmp_path, "a")
    made.item.mask_file.unlink()
    write_summary([made], tmp_path)
    assert "img" not in Page((tmp_path / "summary.html").read_text()).tags


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_slides_coarser_than_the_teacher_are_a_warning(tmp_path, factor):
    made = result(tmp_path, "a")
    made.value["mpp"] = factor
    assert any("warning: 1 slides are coarser" in line for line in summary_lines([made])) == (factor > 1.1)


def test_slides_whose_objects_are_no_usual_glomeruli_are_named(tmp_path):
    results = [result(tmp_path, name) for name in "abcdefgh"]
    assert not any("warning" in line for line in summary_lines(results))
    for one in results[1:]:
        one.value["median_um"] = 48.7
    (line,) = (line for line in summary_lines(results) if "warning" in line)
    assert line.endswith(
        "(100 to 300 um), check um/px and frame: b (49 um), c (49 um), d (49 um), e (49 um), f (49 um), and 2 more"
    )

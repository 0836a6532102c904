from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mhkd.inference.report import slide_report
from mhkd.inference.report.slide_report import flatten, write_report, write_report_json
from mhkd.structures import SlideDetections
from preprocess.slides.slide import Slide
from tests.pages import Page
from tests.results import disc_detections, make_record

EVIL = "<script>alert('x')</script> & \"quotes\""


def page_of(path, slide_path, detections=None, **summary) -> Page:
    with Slide.open(slide_path) as slide:
        write_report(path, make_record(slide, detections, **summary))
    return Page(path.read_text())


def test_the_page_says_what_was_found_and_stands_alone(svs_slide, tmp_path):
    page = page_of(tmp_path / "a.html", svs_slide)
    assert "script" not in page.tags
    assert not {"link", "iframe", "object", "form"} & set(page.tags)
    assert page.outside == []
    assert page.tags.count("img") == 1 + 5
    for text in ("discs.svs", "inadequate", "Kidney Int", "research use only", "detector.pth", "ab" * 32, "0.5 um/px"):
        assert text in page.text
    assert "glomerulus|3|" in page.rows[1]
    # Best first.
    assert [page.text.index(f"{i}: 0.{10 - i}0, ") for i in range(1, 6)] == sorted(
        page.text.index(f"{i}: 0.{10 - i}0, ") for i in range(1, 6)
    )


def test_no_name_can_break_out_of_the_page(svs_slide, tmp_path):
    found = disc_detections(class_names=(EVIL,))
    evil = {"slide": EVIL, "name": EVIL, "mpp_source": EVIL, "warnings": [EVIL], "settings": {EVIL: EVIL}}
    page = page_of(tmp_path / "a.html", svs_slide, found, **evil)
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 8


def test_nothing_of_the_header_and_no_path_is_in_it(svs_slide, tmp_path):
    with Slide.open(svs_slide) as slide:
        record = make_record(slide, slide="slide-1.svs", name="slide-1", patient="secret-patient")
        write_report(tmp_path / "a.html", record)
        write_report_json(tmp_path / "a.json", record)
    for path in (tmp_path / "a.html", tmp_path / "a.json"):
        text = path.read_text()
        assert "discs" not in text
        assert "ScanScope" not in text
        assert str(svs_slide.parent) not in text
    assert "secret-patient" not in (tmp_path / "a.html").read_text()


def test_nothing_found_and_no_tissue_are_said_plainly(svs_slide, tmp_path):
    nothing = SlideDetections.empty(("glomerulus",))
    page = page_of(tmp_path / "a.html", svs_slide, nothing)
    assert page.text.count("Nothing was found.") == 3
    assert page.tags.count("img") == 1
    page = page_of(tmp_path / "b.html", svs_slide, nothing, tiles=0, tissue_mm2=0.0, density_per_mm2=None)
    assert "No tissue was found" in page.text


def test_the_same_record_gives_the_same_bytes(svs_slide, tmp_path):
    with Slide.open(svs_slide) as slide:
        record = make_record(slide)
        for name in "ab":
            write_report(tmp_path / f"{name}.html", record)
            write_report_json(tmp_path / f"{name}.json", record)
        later = replace(record, summary={**record.summary, "seconds": 2.5})
        write_report(tmp_path / "c.html", later)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    first, other = ((tmp_path / f"{name}.html").read_text().splitlines() for name in "ac")
    assert [line for line, changed in zip(first, other, strict=True) if line != changed] == [
        "<tr><th>seconds</th><td>1.0</td></tr>"
    ]


def test_the_json_agrees_with_the_page(svs_slide, tmp_path):
    with Slide.open(svs_slide) as slide:
        record = make_record(slide)
        write_report_json(tmp_path / "a.json", record)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["schema"] == "mhkd-report/1"
    assert report["summary"] == json.loads(json.dumps(record.summary))
    assert len(report["detections"]) == 5


def test_very_many_detections_do_not_make_a_huge_page(svs_slide, tmp_path, monkeypatch):
    monkeypatch.setattr(slide_report, "MAX_CROPS", 2)
    page = page_of(tmp_path / "a.html", svs_slide)
    assert page.tags.count("img") == 1 + 2
    assert "Shown are the first 2 of 5" in page.text


def test_an_error_leaves_no_half_page(svs_slide, tmp_path, monkeypatch):
    def vanished(*_):
        raise OSError("gone")

    monkeypatch.setattr(slide_report, "crop_detection", vanished)
    with pytest.raises(OSError, match="gone"):
        page_of(tmp_path / "a.html", svs_slide)
    assert list(tmp_path.iterdir()) == []


def test_nested_facts_become_lines():
    facts = {"file": "a", "made_by": {"seed": 1, "sizes": [2, 3]}, "commit": None}
    assert list(flatten(facts)) == [
        ("file", "a"),
        ("made by: seed", "1"),
        ("made by: sizes", "2, 3"),
        ("commit", "none"),
    ]

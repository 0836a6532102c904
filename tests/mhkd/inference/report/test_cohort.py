from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mhkd.inference.report import cohort
from mhkd.inference.report.cohort import cohort_table, write_cohort_index
from preprocess.base.images import write_image
from tests.pages import Page

EVIL = "<script>alert('x')</script>"


def summary(name="a", total=12, **more):
    return {
        "name": name,
        "slide": f"{name}.svs",
        "patient": "p1",
        "files": {"overlay": f"{name}.overlay.jpg", "report": f"{name}.report.html"},
        "detections": {"total": total, "by_class": {"glomerulus": total - 2, "sclerotic": 2}},
        "tissue_mm2": 4.0,
        "unreadable_tissue_mm2": 1.0,
        "density_per_mm2": total / 3,
        "mpp": 0.25,
        "mpp_source": "given",
        "score_thresh": 0.5,
        "seconds": 3.0,
        "warnings": [],
        "model": {"sha256": "ab"},
        **more,
    }


def page_of(folder) -> Page:
    return Page((folder / "index.html").read_text())


def test_the_table_has_a_row_for_every_slide(tmp_path):
    write_cohort_index(tmp_path, [summary(), summary("b", total=7, patient=None)], [("c.svs", "broken (copy it)")])
    table = pd.read_csv(tmp_path / "cohort.csv", keep_default_na=False, dtype=str)
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert table["slide"].tolist() == ["a.svs", "b.svs", "c.svs"]
    assert table["count_glomerulus"].tolist() == ["10", "5", ""]
    assert table["adequacy"].tolist() == ["adequate", "marginal", ""]
    assert table["patient"].tolist() == ["p1", "", ""]
    assert table["error"].tolist() == ["", "", "broken (copy it)"]


def test_a_class_that_a_model_does_not_know_was_found_nowhere():
    other = summary("b", detections={"total": 1, "by_class": {"glomerulus": 1}})
    assert cohort_table([summary(), other])["count_sclerotic"].tolist() == [2, 0]


def test_the_page_leads_to_what_is_there(tmp_path):
    write_image(tmp_path / "a.overlay.jpg", np.full((900, 1200, 3), 200, np.uint8))
    (tmp_path / "a.report.html").write_text("a")
    write_cohort_index(tmp_path, [summary(), summary("b", total=7)], [("c.svs", "broken")])
    page = page_of(tmp_path)
    assert page.tags.count("img") == 1
    assert set(page.outside) == {"a.report.html"}
    assert "script" not in page.tags
    # Failures first, then the slides in their order.
    assert [row.split("|")[0] for row in page.rows[1:]] == ["c.svs", "a.svs", "b.svs"]
    assert "19|found on all of them" in "|".join(page.text.split("\n")) or "19found on all of them" in page.text
    assert "1 / 1 / 0" in page.text
    assert "3.17" in page.text  # 19 on 6 mm2 that could be read
    assert "p1" not in page.text


def test_names_are_escaped_in_text_and_address(tmp_path):
    name = "a b#%"
    (tmp_path / f"{name}.report.html").write_text("a")
    write_cohort_index(tmp_path, [summary(name, slide=EVIL)], [(EVIL, EVIL)])
    page = page_of(tmp_path)
    assert "script" not in page.tags
    assert page.text.count(EVIL) == 3
    assert page.outside == ["a%20b%23%25.report.html"]


@pytest.mark.parametrize(
    ("other", "warning"),
    [
        ({"model": {"sha256": "cd"}}, "2 different models"),
        ({"model": {"sha256": "ab", "computed_by": "Detectron2, cuda, bfloat16"}}, "computed in different ways"),
        ({"score_thresh": 0.7}, "different score thresholds (0.5, 0.7)"),
    ],
)
def test_slides_that_cannot_be_compared_are_a_warning(tmp_path, other, warning):
    write_cohort_index(tmp_path, [summary(), summary("b", **other)])
    assert warning in page_of(tmp_path).text
    write_cohort_index(tmp_path, [summary(), summary("b")])
    assert "different" not in page_of(tmp_path).text


def test_no_slide_no_tissue_and_a_damaged_picture(tmp_path):
    write_cohort_index(tmp_path, [])
    assert "There are no slides." in page_of(tmp_path).text
    (tmp_path / "a.overlay.jpg").write_bytes(b"no picture")
    empty = summary(total=2, tissue_mm2=0.0, unreadable_tissue_mm2=0.0, density_per_mm2=None)
    write_cohort_index(tmp_path, [empty])
    assert page_of(tmp_path).tags.count("img") == 0


def test_very_many_slides_do_not_make_a_huge_page(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "_MAX_THUMBNAILS", 2)
    for name in "abc":
        write_image(tmp_path / f"{name}.overlay.jpg", np.full((90, 120, 3), 200, np.uint8))
    write_cohort_index(tmp_path, [summary(name) for name in "abc"])
    assert page_of(tmp_path).tags.count("img") == 2


def test_the_same_slides_give_the_same_bytes(tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_cohort_index(folder, [summary(), summary("b")], [("c", "broken")])
    for name in ("index.html", "cohort.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

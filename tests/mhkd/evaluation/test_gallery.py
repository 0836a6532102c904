"""A slide with planted errors: the right ones are on the sheets, in their order and place."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from mhkd.evaluation.gallery import SIDE_PX, gallery_columns, write_gallery
from mhkd.evaluation.metrics import SlideMetrics
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide
from mhkd.structures import SlideDetections
from preprocess.base.errors import UserError
from preprocess.slides.table import read_slides_csv
from tests.blobs import DISC_RGB, DISCS, TISSUE_RGB, boxes_of, write_blob_slide

NAMES = ("glomerulus",)
EMPTY = [[1250.0, 700, 1350, 800], [700.0, 300, 800, 400]]  # tissue without a disc


@pytest.fixture
def cohort(tmp_path):
    """Two slides of two sources: on ``a`` the first disc is missed and two detections are false, on ``b`` all is right
    but for one loose box."""
    for name in "ab":
        write_blob_slide(tmp_path / f"{name}.svs")
    (tmp_path / "slides.csv").write_text(
        "slide,mpp,source,stain,split\na.svs,0.5,one,PAS,test\nb.svs,0.5,two,,test\nother.svs,0.5,two,HE,train\n"
    )
    boxes = boxes_of()
    loose = boxes.copy()
    loose[3, 2] += 80
    truth = GroundTruth.of(boxes, NAMES * len(boxes), NAMES)

    def scored(name, found, scores):
        return ScoredSlide(name, name, 0.5, 1.0, truth, SlideDetections(found, scores, np.zeros(len(scores)), NAMES))

    slides = [
        scored("a", np.concatenate((boxes[1:], EMPTY)), np.array([0.9] * 5 + [0.7, 0.8])),
        scored("b", loose, np.full(6, 0.9)),
    ]
    return read_slides_csv(tmp_path / "slides.csv"), {"m": SlideMetrics.of(slides, 0.5, draws=0)}


def rgb(path):
    return cv2.imread(str(path))[..., ::-1].astype(int)


def squares(path):
    """The pictures of the first row: the slide and what the model sees of it, of each failure."""
    image = rgb(path)
    top = 2 * (17 * 2 + 5) - 17  # below the title (one line) and the captions (two)
    row = image[top : top + SIDE_PX]
    width = 2 * SIDE_PX + 4 + 8
    return [
        (row[:, x : x + SIDE_PX], row[:, x + SIDE_PX + 4 : x + 2 * SIDE_PX + 4])
        for x in range(0, image.shape[1] - width + 1, width)
    ]


def is_near(pixel, colour):
    return np.abs(pixel - np.array(colour)).max() < 25


def test_the_planted_errors_are_on_the_sheets_of_their_source(cohort, tmp_path):
    slides, metrics = cohort
    written = write_gallery(tmp_path, metrics, slides, {"m": 4.0}, by=["source", "stain"])
    assert [path.name for path in written] == [
        *("gallery.csv", "m.one-PAS.false.png", "m.one-PAS.missed.png", "m.two-none.loose.png")
    ]
    table = pd.read_csv(written[0], keep_default_na=False)
    assert table[["source", "stain", "kind", "rank", "slide"]].values.tolist() == [
        ["one", "PAS", "false", 1, "a"],
        ["one", "PAS", "false", 2, "a"],
        ["one", "PAS", "missed", 1, "a"],
        ["two", "none", "loose", 1, "b"],
    ]
    assert table["score"].tolist() == ["0.8", "0.7", "", "0.9"]
    assert table["cause"].tolist() == ["nothing there", "nothing there", "not seen", ""]
    np.testing.assert_allclose(
        table[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]].to_numpy(float)[:3], [EMPTY[1], EMPTY[0], boxes_of()[0]]
    )
    assert table["diameter_um"].tolist()[:3] == [50, 50, DISCS[0][2]]
    # What is shown is what lies there: tissue in the middle of the false ones, a disc where it was missed.
    false, missed = squares(written[1]), squares(written[2])
    assert (len(false), len(missed)) == (2, 1)
    middle = SIDE_PX // 2
    for shown, seen in false:
        assert is_near(shown[middle, middle], TISSUE_RGB)
        assert is_near(seen[middle, middle], TISSUE_RGB)
    for shown, seen in missed:
        assert is_near(shown[middle, middle], DISC_RGB)
        assert is_near(seen[middle, middle], DISC_RGB)


def test_boxes_are_drawn_where_they_lie(cohort, tmp_path):
    slides, metrics = cohort
    written = write_gallery(tmp_path, metrics, slides, {"m": 4.0}, by=[])
    (shown, seen), *_ = squares(next(path for path in written if path.name == "m.all.missed.png"))
    # The square is 250 um wide, the disc 90: the true box begins 80 um from its left edge, which is a third.
    edge = round(80 / 250 * SIDE_PX)
    blue = np.abs(shown - np.array((86, 180, 233))).max(axis=2) < 25
    assert blue[SIDE_PX // 2, edge - 1 : edge + 2].any()
    assert np.flatnonzero(blue.any(axis=0)).min() == pytest.approx(edge, abs=2)
    assert not (np.abs(seen - np.array((86, 180, 233))).max(axis=2) < 25).any()  # nothing hides what the model sees
    # 63 pixels of 4 um: each is enlarged to a block without steps between.
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) < 63 * 63


def test_sheets_hold_the_worst_and_the_table_all(cohort, tmp_path):
    slides, metrics = cohort
    table = pd.read_csv(write_gallery(tmp_path, metrics, slides, {"m": 4.0}, by=["source"], count=1)[0])
    assert table["sheet"].fillna("").tolist() == ["m.one.false.png", "", "m.one.missed.png", "m.two.loose.png"]
    assert len(squares(tmp_path / "gallery" / "m.one.false.png")) == 1
    # Fewer failures leave no sheet of those there were.
    assert [path.name for path in write_gallery(tmp_path, metrics, slides, {"m": 4.0}, by=[], count=0)] == [
        "gallery.csv"
    ]
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["gallery.csv"]


def test_the_same_failures_give_the_same_bytes(cohort, tmp_path):
    slides, metrics = cohort
    for name in ("x", "y"):
        write_gallery(tmp_path / name, metrics, slides, {"m": 4.0}, by=["source"])
    for path in (tmp_path / "x" / "gallery").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / "gallery" / path.name).read_bytes()


def test_the_columns_that_part_the_slides(cohort):
    slides, _ = cohort
    assert gallery_columns(slides, None) == ["source", "stain"]
    assert gallery_columns(slides.drop(columns="source"), None) == ["stain"]
    assert gallery_columns(slides, ["patient"]) == ["patient"]
    with pytest.raises(UserError, match="no column 'scanner'"):
        gallery_columns(slides, ["scanner"])

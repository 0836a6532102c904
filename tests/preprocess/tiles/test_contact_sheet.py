from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from preprocess.base.errors import UserError
from preprocess.tiles.contact_sheet import CLASS_RGB, IGNORED_RGB, contact_sheet
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest

SIDE = 80


@pytest.fixture
def manifest(tmp_path):
    """Two slides of one tile each: the teacher's red, the student's blue, with a box of each kind."""
    tiles, boxes = [], []
    for name in "ab":
        for side, px, bgr in (("teacher", 64, (0, 0, 255)), ("student", 16, (255, 0, 0))):
            cv2.imwrite(str(tmp_path / f"{name}_{side}.png"), np.full((px, px, 3), bgr, np.uint8))
        values = {"tile_id": name, "slide": name, "teacher_file": f"{name}_teacher.png"}
        values |= {"student_file": f"{name}_student.png", "width_l0": 100.0, "height_l0": 100.0}
        tiles.append({column: values.get(column, column == "labelled") for column in TILES_COLUMNS})
        for label, x, ignore in (("g", 10.0, False), ("h", 40.0, False), ("g", 70.0, True)):
            box = {"tile_id": name, "label": label, "x0_l0": x, "y0_l0": 10.0, "x1_l0": x + 20, "y1_l0": 40.0}
            boxes.append({**box, "visible_fraction": 1.0, "ignore": ignore})
    tables = pd.DataFrame(tiles).astype(TILES_COLUMNS), pd.DataFrame(boxes).astype(BOXES_COLUMNS)
    return Manifest(tmp_path, *tables, ["g", "h"], 1.0, 4.0)


def pixels_of(image, rgb):
    return (image == rgb).all(axis=-1)


def test_boxes_have_the_colour_of_their_class_on_both_images(manifest):
    sheet = contact_sheet(manifest, count=1, side_px=SIDE, columns=1)
    for image in (sheet[18 : 18 + SIDE, :SIDE], sheet[18 : 18 + SIDE, 86 : 86 + SIDE]):
        for colour, left in ((CLASS_RGB[0], 8), (CLASS_RGB[1], 32), (IGNORED_RGB, 56)):
            rows, columns = np.nonzero(pixels_of(image, colour))
            # A line of two or three pixels around the box, whose sides are 16 and 24 px.
            assert (columns.min(), columns.max()) == pytest.approx((left, left + 16), abs=1)
            assert (rows.min(), rows.max()) == pytest.approx((8, 32), abs=1)


def test_a_checkerboard_takes_its_fields_in_turn(manifest):
    sheet = contact_sheet(manifest, count=1, side_px=SIDE, columns=1, checkerboard=True)
    board = sheet[18 : 18 + SIDE, 2 * 86 : 2 * 86 + SIDE]
    assert board[::10, ::10].tolist() == [
        [[255, 0, 0] if (row + column) % 2 == 0 else [0, 0, 255] for column in range(8)] for row in range(8)
    ]


def test_one_slide_only(manifest):
    both, one = (contact_sheet(manifest, count=9, side_px=SIDE, columns=1, slide=slide) for slide in (None, "b"))
    assert both.shape[0] - one.shape[0] == 18 + SIDE + 6
    with pytest.raises(UserError, match=r"no tile of the slide 'c' .it has slides such as a, b"):
        contact_sheet(manifest, count=1, slide="c")


def test_what_cannot_be_drawn(manifest):
    (manifest.root / "a_student.png").unlink()
    with pytest.raises(UserError, match=r"a_student\.png: missing or damaged tile"):
        contact_sheet(manifest, count=9)
    manifest.boxes = manifest.boxes.iloc[:0]
    with pytest.raises(UserError, match="no tile has a box"):
        contact_sheet(manifest, count=9)

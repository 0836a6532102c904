from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mhkd.inference.export.csv import COLUMNS, read_csv, write_csv
from mhkd.inference.export.features import detection_ids
from mhkd.structures import SlideDetections
from preprocess.base.errors import UserError
from tests.records import CLASSES, FrameOnly, detections, record


def test_a_row_has_the_box_in_pixels_and_micrometres_its_size_and_its_piece_of_tissue(tmp_path):
    found = detections([(10, 20, 110, 220)], [0.9], [1])
    write_csv(tmp_path / "a.csv", record(found, fragments=np.array([3])))
    table = pd.read_csv(tmp_path / "a.csv")
    assert tuple(table.columns) == COLUMNS
    assert table.iloc[0].to_dict() == {
        "slide": "a",
        "id": detection_ids(found, "a")[0],
        "class": CLASSES[1],
        "score": 0.9,
        **{"x0_l0": 10, "y0_l0": 20, "x1_l0": 110, "y1_l0": 220, "center_x_l0": 60, "center_y_l0": 120},
        **{"x0_um": 5, "y0_um": 10, "x1_um": 55, "y1_um": 110},
        **{"width_um": 50, "height_um": 100, "diameter_um": 70.71, "fragment": 3},
    }


def test_pixels_that_are_not_square_have_a_scale_for_each_axis(tmp_path):
    write_csv(tmp_path / "a.csv", record(detections([(0, 0, 100, 100)], [0.9], [0]), FrameOnly(mpp_xy=(0.5, 0.25))))
    row = pd.read_csv(tmp_path / "a.csv").iloc[0]
    assert (row["width_um"], row["height_um"]) == (50, 25)
    assert row["diameter_um"] == pytest.approx(35.36)


def test_the_table_is_read_back_as_it_was(tmp_path):
    one = record(detections([(10.123, 20.456, 110.999, 220), (5, 5, 7, 7.01)], [0.51234, 0.9], [0, 1]))
    write_csv(tmp_path / "a.csv", one)
    found, fragments = read_csv(tmp_path / "a.csv", CLASSES)
    np.testing.assert_array_equal(found.boxes_l0, one.detections.boxes_l0)
    np.testing.assert_array_equal(found.scores, one.detections.scores)
    np.testing.assert_array_equal(found.labels, one.detections.labels)
    np.testing.assert_array_equal(fragments, [1, 2])


def test_nothing_found_leaves_the_header_and_reads_back_as_nothing(tmp_path):
    write_csv(tmp_path / "a.csv", record(SlideDetections.empty(CLASSES)))
    assert (tmp_path / "a.csv").read_text() == ",".join(COLUMNS) + "\n"
    found, fragments = read_csv(tmp_path / "a.csv", CLASSES)
    assert (len(found), len(fragments)) == (0, 0)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0\0"])
def test_a_damaged_table_and_a_foreign_class_are_errors(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match="not a table of detections"):
        read_csv(tmp_path / "a.csv", CLASSES)
    write_csv(tmp_path / "b.csv", record())
    with pytest.raises(UserError, match="not a table of detections"):
        read_csv(tmp_path / "b.csv", ("other",))
    with pytest.raises(UserError, match="no such table"):
        read_csv(tmp_path / "c.csv", CLASSES)

from __future__ import annotations

import numpy as np
import pandas as pd

from mhkd.inference.export.csv import write_csv
from mhkd.inference.export.features import detection_ids
from mhkd.structures import SlideDetections


def test_a_row_has_the_box_its_centre_and_its_size(tmp_path):
    found = SlideDetections(np.array([[10.0, 20, 110, 220]]), np.array([0.9]), np.array([1]), ("a", "b"))
    write_csv(tmp_path / "s.csv", found, slide_name="s", mpp=0.5)
    row = pd.read_csv(tmp_path / "s.csv").iloc[0].to_dict()
    assert row == {
        "id": detection_ids(found, "s")[0],
        "class": "b",
        "score": 0.9,
        "x0_l0": 10,
        "y0_l0": 20,
        "x1_l0": 110,
        "y1_l0": 220,
        "center_x_l0": 60,
        "center_y_l0": 120,
        "width_um": 50,
        "height_um": 100,
        "diameter_um": 70.71,
    }


def test_nothing_found_leaves_the_header(tmp_path):
    write_csv(tmp_path / "s.csv", SlideDetections.empty(("a",)), slide_name="s", mpp=0.5)
    assert len(pd.read_csv(tmp_path / "s.csv")) == 0
    assert (tmp_path / "s.csv").read_text().startswith("id,class,score,x0_l0")

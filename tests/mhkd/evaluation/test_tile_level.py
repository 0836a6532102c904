from __future__ import annotations

import cv2
import pandas as pd
import pytest

from mhkd.evaluation.tile_level import evaluate_tiles
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest
from tests.blobs import BlobDetector, draw

DISCS = ((150, 150, 100), (650, 250, 110))  # one in each of two tiles of 400 x 400 level-0 pixels
SIDES = {"teacher": 200, "student": 100}


@pytest.fixture
def manifest(tmp_path):
    """Two test tiles at 1 and 2 um/px of a 0.5 um/px slide, the first with an object to be ignored besides its disc."""
    image = draw(DISCS, width=800, height=400)[..., ::-1]
    tiles, boxes = [], []
    for i, (x, y, r) in enumerate(DISCS):
        tile = {
            "tile_id": f"t{i}",
            "slide": "s",
            "slide_path": "s.svs",
            "patient": "p",
            "split": "test",
            "labelled": True,
        }
        tile |= {"x_l0": 400 * i, "y_l0": 0, "width_l0": 400, "height_l0": 400, "slide_mpp": 0.5, "tissue": 1.0}
        for side, px in SIDES.items():
            pixels = cv2.resize(image[:, 400 * i : 400 * (i + 1)], (px, px), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(tmp_path / f"{side}{i}.png"), pixels)
            tile |= {f"{side}_file": f"{side}{i}.png", f"{side}_width": px, f"{side}_height": px}
        tiles.append({**tile, "num_boxes": 1})
        boxes.append([f"t{i}", "glomerulus", x - r, y - r, x + r, y + r, 1.0, False])
    boxes.append(["t0", "glomerulus", 380, 380, 400, 400, 0.2, True])
    return Manifest(
        root=tmp_path,
        tiles=pd.DataFrame(tiles)[list(TILES_COLUMNS)].astype(TILES_COLUMNS),
        boxes=pd.DataFrame(boxes, columns=list(BOXES_COLUMNS)).astype(BOXES_COLUMNS),
        labels=["glomerulus"],
        teacher_mpp=1.0,
        student_mpp=2.0,
    )


@pytest.mark.parametrize(("mpp", "side"), [(1.0, "teacher"), (2.01, "student")])
def test_the_detector_gets_the_tiles_of_its_own_mpp(manifest, mpp, side):
    result = evaluate_tiles(BlobDetector(input_mpp=mpp), manifest, "test", batch_size=1)
    assert result["tiles_of"] == side
    assert (result["num_tiles"], result["num_objects"]) == (2, 2)
    assert result["AP50"] == pytest.approx(100)
    assert result["AP"] > 75


def test_what_is_missed_costs(manifest):
    manifest.boxes.loc[len(manifest.boxes)] = ["t1", "glomerulus", 450.0, 20.0, 500.0, 80.0, 1.0, False]
    assert evaluate_tiles(BlobDetector(input_mpp=1.0), manifest, "test")["AP50"] == pytest.approx(67 / 1.01)


def test_tiles_at_another_mpp_are_refused(manifest):
    with pytest.raises(UserError, match=r"wants 4 um/px, the tiles have 1 \(teacher\) and 2 \(student\)"):
        evaluate_tiles(BlobDetector(input_mpp=4.0), manifest, "test")


def test_a_missing_tile_is_named(manifest):
    (manifest.root / "student1.png").unlink()
    with pytest.raises(UserError, match=r"student1\.png.*make the tiles again"):
        evaluate_tiles(BlobDetector(input_mpp=2.0), manifest, "test")

from __future__ import annotations

from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import read_tile
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.random_pairs import write_random_pairs


def test_they_read_as_a_tile_set_with_boxes_around_the_discs(tmp_path):
    write_random_pairs(tmp_path, 3, tile_px=128, scale=4, objects=1)
    manifest = Manifest.read(tmp_path)
    assert manifest.student_mpp / manifest.teacher_mpp == 4
    for side, width in (("teacher", 128), ("student", 32)):
        for tile in tile_dicts(manifest, "train", side):
            image = read_tile(tile["file_name"])
            assert image.shape == (width, width, 3)
            x0, y0, x1, y1 = (round(v) for v in tile["annotations"][0]["bbox"])
            inside, whole = image[y0:y1, x0:x1].mean(), image.mean()
            assert inside < whole - 15  # darker than the rest

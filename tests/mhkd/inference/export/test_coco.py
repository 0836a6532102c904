from __future__ import annotations

import json

from pycocotools.coco import COCO

from mhkd.inference.export.coco import write_coco
from mhkd.structures import SlideDetections
from tests.records import CLASSES, record


def test_pycocotools_reads_it(tmp_path, capsys):
    write_coco(tmp_path / "a.json", record())
    coco = COCO(str(tmp_path / "a.json"))
    assert coco.loadImgs(1) == [{"id": 1, "file_name": "a.svs", "width": 40_000, "height": 30_000}]
    assert [category["name"] for category in coco.loadCats([1, 2])] == list(CLASSES)
    first = coco.loadAnns(coco.getAnnIds(imgIds=1, catIds=1))[0]
    assert (first["bbox"], first["area"], first["score"]) == ([10, 20, 100, 200], 20_000, 0.9)
    assert first["attributes"] == {"diameter_um": 70.71, "tissue_fragment": 1}
    # As results, which need no ids of their own.
    rows = [{key: a[key] for key in ("image_id", "category_id", "bbox", "score")} for a in coco.dataset["annotations"]]
    assert len(coco.loadRes(rows).anns) == 2


def test_nothing_found_still_names_image_and_classes(tmp_path):
    write_coco(tmp_path / "a.json", record(SlideDetections.empty(CLASSES)))
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["annotations"] == []
    assert len(content["categories"]) == 2
    assert content["info"]["model_sha256"] == "0" * 64

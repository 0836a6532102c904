"""The manifest as COCO JSON, one file for each split and each side of the pairs."""

from __future__ import annotations

from typing import Any, Literal

from preprocess.base.files import write_json
from preprocess.base.geometry import Region, Size
from preprocess.slides.table import SPLITS
from preprocess.tiles.manifest import Manifest

Side = Literal["teacher", "student"]
SIDES: tuple[Side, ...] = ("teacher", "student")


def write_coco(manifest: Manifest) -> None:
    """Write ``coco_<split>_<side>.json`` into the manifest's root; a split without tiles has none.

    Tiles that are not labelled stand in ``coco_unlabelled_<side>.json`` alone: who trains on the others would take them
    for background.
    """
    parts = manifest.tiles["split"].where(manifest.tiles["labelled"], "unlabelled")
    for name in (*SPLITS, "unlabelled"):
        for side in SIDES:
            path = manifest.root / f"coco_{name}_{side}.json"
            if (parts == name).any():
                write_json(path, to_coco(manifest.select(parts == name), side))
            else:
                path.unlink(missing_ok=True)


def to_coco(manifest: Manifest, side: Side) -> dict[str, Any]:
    """The whole ``manifest`` as a COCO dictionary of the images of ``side``.

    Boxes are XYWH in pixels of the image; those to be ignored have ``iscrowd`` 1. Category ids count
    from 1 in the order of the manifest's labels; ``file_name`` is relative to the manifest's root.
    """
    boxes_of = dict(list(manifest.boxes.groupby("tile_id", sort=False)))
    category_id = {label: number for number, label in enumerate(manifest.labels, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for tile in manifest.tiles.to_dict("records"):
        size = Size(tile[f"{side}_width"], tile[f"{side}_height"])
        image = {"id": len(images) + 1, "file_name": tile[f"{side}_file"], "width": size.width, "height": size.height}
        images.append({**image, "tile_id": tile["tile_id"]})
        if tile["tile_id"] not in boxes_of:
            continue
        boxes = boxes_of[tile["tile_id"]]
        region = Region(tile["x_l0"], tile["y_l0"], tile["width_l0"], tile["height_l0"])
        boxes_px = region.to_px(boxes[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]], size).tolist()
        for (x0, y0, x1, y1), label, ignore in zip(boxes_px, boxes["label"], boxes["ignore"], strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category_id[label],
                    "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round((x1 - x0) * (y1 - y0), 3),
                    "iscrowd": int(ignore),
                }
            )
    categories = [{"id": number, "name": label} for label, number in category_id.items()]
    return {"images": images, "annotations": annotations, "categories": categories}

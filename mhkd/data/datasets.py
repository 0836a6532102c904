"""Tile manifest -> Detectron2 dataset dicts."""

from __future__ import annotations

from typing import Any

from detectron2.structures import BoxMode

from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest


def tile_dicts(manifest: Manifest, split: str, side: str) -> list[dict[str, Any]]:
    """One Detectron2 dict per tile of ``split``, boxes in pixels of the ``side`` ("teacher" or "student").

    Besides Detectron2's own keys each dict names both images of its pair: ``teacher_file_name``, ``student_file_name``.
    Boxes marked ignore get ``iscrowd=1``. Tiles that are not ``labelled`` are left out, unless the manifest has what a
    detector found in them; then all boxes have a ``score``.

    Raises:
        UserError: the split has no tiles.
    """
    if not manifest.has_pseudo_labels:
        manifest = manifest.labelled()
    tiles = manifest.tiles[manifest.tiles["split"] == split]
    if tiles.empty:
        raise UserError(
            f"no tiles in split {split!r}",
            path=manifest.root,
            remedy="give some slides that split and make tiles again",
        )
    class_ids = {label: i for i, label in enumerate(manifest.labels)}
    boxes = {tile_id: rows for tile_id, rows in manifest.boxes.groupby("tile_id")}
    dicts = []
    for image_id, tile in enumerate(tiles.itertuples(index=False)):
        width, height = getattr(tile, f"{side}_width"), getattr(tile, f"{side}_height")
        scale_x, scale_y = width / tile.width_l0, height / tile.height_l0
        annotations = [
            {
                "bbox": [
                    (box.x0_l0 - tile.x_l0) * scale_x,
                    (box.y0_l0 - tile.y_l0) * scale_y,
                    (box.x1_l0 - tile.x_l0) * scale_x,
                    (box.y1_l0 - tile.y_l0) * scale_y,
                ],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": class_ids[box.label],
                "iscrowd": int(box.ignore),
                **({"score": box.score} if manifest.has_pseudo_labels else {}),
            }
            for box in (boxes[tile.tile_id].itertuples(index=False) if tile.tile_id in boxes else ())
        ]
        dicts.append(
            {
                "file_name": str(manifest.root / getattr(tile, f"{side}_file")),
                "teacher_file_name": str(manifest.root / tile.teacher_file),
                "student_file_name": str(manifest.root / tile.student_file),
                "image_id": image_id,
                "tile_id": tile.tile_id,
                "labelled": bool(tile.labelled),
                "height": height,
                "width": width,
                "annotations": annotations,
            }
        )
    return dicts

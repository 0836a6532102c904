"""Slides with discs for objects, and a detector that finds discs by their colour: to test what surrounds models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import shapely
import tifffile
import torch
from detectron2.structures import Boxes, Instances

from preprocess.base.files import write_json
from preprocess.synthetic.svs import write_svs

TISSUE_RGB, DISC_RGB = (232, 180, 205), (90, 40, 140)
MPP = 0.5
DISCS = ((500, 450, 90), (1020, 500, 100), (1500, 470, 110), (640, 1000, 100), (856, 1000, 100), (1450, 1010, 95))
"""x, y, radius in level-0 pixels; two of them nearly touch."""


@dataclass
class BlobDetector:
    """Finds DISC_RGB discs; ``calls`` counts its batches."""

    input_mpp: float = 4.0
    tile_px: int = 96
    class_names: tuple[str, ...] = ("glomerulus",)
    path: Path = Path(__file__)
    provenance: dict[str, Any] = field(default_factory=dict)
    score_thresh: float | None = None
    is_thread_safe: bool = False
    device: str = "cpu"
    computed_by: str = "colours, cpu"
    calls: int = 0

    def model(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.calls += 1
        return [{"instances": self._find(item["image"])} for item in inputs]

    def _find(self, image: torch.Tensor) -> Instances:
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
        rgb = image.numpy().transpose(1, 2, 0).astype(int)
        dark = (np.abs(rgb - DISC_RGB).max(axis=2) < 60).astype(np.uint8)
        # Neighbours stay two.
        _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.erode(dark, np.ones((3, 3))), connectivity=4)
        rows = [(x - 1, y - 1, x + w + 1, y + h + 1) for x, y, w, h, area in stats[1:] if area >= 4]
        boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
        found = Instances(image.shape[1:], pred_boxes=Boxes(boxes), scores=torch.full((len(rows),), 0.875))
        found.pred_classes = torch.zeros(len(rows), dtype=torch.int64)
        return found


def boxes_of(discs=DISCS) -> np.ndarray:
    """(N, 4) xyxy, level-0 pixels."""
    return np.array([(x - r, y - r, x + r, y + r) for x, y, r in discs], dtype=float).reshape(-1, 4)


def draw(discs=DISCS, width: int = 2000, height: int = 1500) -> np.ndarray:
    """Tissue with discs on white glass, uint8 RGB."""
    image = np.full((height, width, 3), 255, np.uint8)
    cv2.rectangle(image, (250, 200), (width - 250, height - 200), TISSUE_RGB, cv2.FILLED)
    for x, y, radius in discs:
        cv2.circle(image, (x, y), radius, DISC_RGB, cv2.FILLED)
    return image


def write_blob_slide(path: Path, discs=DISCS, mpp: float | None = MPP) -> Path:
    return write_svs(path, draw(discs), mpp=mpp, objective_power=None)


def write_annotations(path: Path, discs=DISCS, label: str = "glomerulus") -> Path:
    """QuPath GeoJSON of the discs."""
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.Point(x, y).buffer(radius)),
            "properties": {"objectType": "annotation", "classification": {"name": label}},
        }
        for x, y, radius in discs
    ]
    write_json(path, {"type": "FeatureCollection", "features": features})
    return path


def write_cohort(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """slides.csv of rows with slide, annotation, patient, split."""
    pd.DataFrame(rows).to_csv(folder / "slides.csv", index=False)
    return folder / "slides.csv"


def damage_tile(path: Path, level: int, column: int, row: int) -> Path:
    """Fill one JPEG tile of a level of a tiled TIFF with zeros; ``level`` counts the tiled pages."""
    with tifffile.TiffFile(path) as tiff:
        page = [page for page in tiff.pages if page.is_tiled][level]
        index = row * -(-page.imagewidth // page.tilewidth) + column
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(count))
    return path

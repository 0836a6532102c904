"""Ultralytics' YOLO trained on the student's tiles, from scratch: its weights come by download only.

AGPL-3.0, so it is no dependency of this project; whoever wants the comparison installs it beside (pip install
ultralytics). Its own augmentation, schedule and optimiser are left as they come.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from preprocess.base.errors import UserError
from preprocess.tiles.coco import to_coco
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.contestants.peer import Peer, as_output

NAME, BATCH = "ultralytics-yolo", 4
# Neither downloads nor installs anything behind the user's back; read when ultralytics is imported.
OFFLINE = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def train(manifest: Manifest, iterations: int, seed: int, folder: Path, model: str = "yolo11n.yaml") -> Peer:
    """``model`` for about ``iterations`` of BATCH tiles (whole epochs), its input as large as the teacher's tiles."""
    os.environ.update(OFFLINE)
    try:
        from ultralytics import YOLO
    except ImportError:
        raise UserError("Ultralytics is not installed", remedy="pip install ultralytics (AGPL-3.0)") from None
    manifest = manifest.labelled()
    side = int(manifest.tiles["teacher_width"].iloc[0])
    data = write_dataset(manifest, folder / "dataset")
    per_epoch = -(-(manifest.tiles["split"] == "train").sum() // BATCH)
    epochs = max(1, round(iterations / per_epoch))
    network = YOLO(model)
    peer = Peer.of(manifest, model=Predict(network, side), start="nothing", path=folder / "model.pt")
    with peer.training(int(epochs * per_epoch)):
        network.train(
            **{"data": str(data), "epochs": epochs, "imgsz": side, "batch": BATCH, "seed": seed, "device": "cpu"},
            **{"project": str(folder.resolve()), "name": "run", "exist_ok": True, "workers": 0, "pretrained": False},
            **{"amp": False, "plots": False, "val": False, "verbose": False},
        )
    shutil.copyfile(folder / "run" / "weights" / "last.pt", peer.detector.path)
    return peer


class Predict:
    """A YOLO as Detectron2's detectors are called."""

    def __init__(self, network: Any, side: int) -> None:
        self.network, self.side = network, side

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        images = [x["image"].numpy().transpose(1, 2, 0)[..., ::-1] for x in batched_inputs]  # it wants BGR
        found = self.network.predict(images, imgsz=self.side, conf=0.05, device="cpu", verbose=False)
        return [
            as_output(one.boxes.xyxy.cpu(), one.boxes.conf.cpu(), one.boxes.cls.cpu(), image.shape[:2])
            for one, image in zip(found, images, strict=True)
        ]


def write_dataset(manifest: Manifest, folder: Path) -> Path:
    """The student's tiles in YOLO's layout, with the boxes that make_tiles.py writes as COCO; the path of data.yaml.

    Boxes to be ignored are left out, for YOLO does not know them.
    """
    for split in ("train", "val"):
        coco = to_coco(manifest.split(split), "student")
        lines: dict[int, list[str]] = {image["id"]: [] for image in coco["images"]}
        sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
        for box in coco["annotations"]:
            if not box["iscrowd"]:
                lines[box["image_id"]].append(_line(box, *sizes[box["image_id"]]))
        images, labels = (folder / kind / split for kind in ("images", "labels"))
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for image in coco["images"]:
            source = manifest.root / image["file_name"]
            shutil.copyfile(source, images / f"{image['id']}{source.suffix}")
            (labels / f"{image['id']}.txt").write_text("".join(lines[image["id"]]), encoding="ascii")
    names = dict(enumerate(manifest.labels))
    content = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "data.yaml"


def _line(box: dict[str, Any], width: int, height: int) -> str:
    x, y, w, h = box["bbox"]
    shares = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
    return f"{box['category_id'] - 1} " + " ".join(f"{share:.6f}" for share in shares) + "\n"

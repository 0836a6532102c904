"""What a detector found on the slides that nobody annotated, as boxes to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from preprocess.annotations.annotation import Annotation
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of, write_json
from preprocess.base.geometry import Region
from preprocess.tiles.boxes import BoxIndex
from preprocess.tiles.manifest import BOXES_COLUMNS, Manifest
from preprocess.tiles.pairs import KEPT_KINDS, PairSpec, PlannedTile, thin_out
from preprocess.tiles.writer import box_rows

HEADER = "labels.json"
SCHEMA_VERSION = 1
_AGAIN = "make them again: mhkd pseudo-labels, or make pseudo-labels"

FoundBox = tuple[str, tuple[float, float, float, float], float]
"""Class, box (xyxy, level-0 pixels) and score of a detection."""


@dataclass(frozen=True)
class PseudoLabels:
    """The labels of slides, by name: all detections from ``unsure_thresh`` on.

    From ``sure_thresh`` on a detection is an object, below it is to be ignored: neither an object nor background.
    ``about`` is the rest of the header, such as how the thresholds were chosen.
    """

    root: Path
    slides: Mapping[str, Sequence[FoundBox]]
    model_sha256: str
    sure_thresh: float
    unsure_thresh: float
    about: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> PseudoLabels:
        """The labels in ``folder``. Raises UserError where they are missing, damaged or not whole."""
        path = Path(folder) / HEADER
        header = _read(path)
        slides = {}
        try:
            if header["schema_version"] != SCHEMA_VERSION:
                raise UserError(f"schema version {header['schema_version']}", path=path, remedy=_AGAIN)
            for name, digest in header["slides"].items():
                file = path.parent / "slides" / f"{name}.json"
                boxes = _read(file)["boxes"]
                if sha256_of(file) != digest:
                    raise UserError(f"not the labels that {HEADER} was written for", path=file, remedy=_AGAIN)
                slides[name] = [(box["label"], tuple(box["box_l0"]), float(box["score"])) for box in boxes]
            thresholds = float(header["sure_thresh"]), float(header["unsure_thresh"])
            return cls(path.parent, slides, str(header["model_sha256"]), *thresholds, about=header)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError("no header of labels", path=path, remedy=_AGAIN) from error

    def write(self) -> Path:
        """Write a file for each slide and then the header, whose path is returned: without it nothing is finished."""
        path = self.root / HEADER
        path.unlink(missing_ok=True)
        digests = {}
        for name, boxes in self.slides.items():
            file = path.parent / "slides" / f"{name}.json"
            found = [{"label": label, "box_l0": list(box), "score": score} for label, box, score in boxes]
            write_json(file, {"slide": name, "model_sha256": self.model_sha256, "boxes": found})
            digests[name] = sha256_of(file)
        stated = {"model_sha256": self.model_sha256, "sure_thresh": self.sure_thresh}
        stated |= {"unsure_thresh": self.unsure_thresh, "slides": digests}
        write_json(path, {**self.about, "schema_version": SCHEMA_VERSION, **stated})
        return path

    def lines(self) -> list[str]:
        """What there is, for people."""
        scores = [score for boxes in self.slides.values() for _, _, score in boxes]
        if not self.slides:
            return ["no slide is unlabelled: there is nothing to label"]
        num_sure = sum(score >= self.sure_thresh for score in scores)
        how = self.about["thresholds"]
        return [
            f"{len(self.slides)} slides: {num_sure} objects (score {self.sure_thresh:.3g} or more), "
            f"{len(scores) - num_sure} boxes to be ignored ({self.unsure_thresh:.3g} or more)",
            f"thresholds: {how['origin']}"
            + (f"; precision {how['precision']:.1%}, recall {how['recall']:.1%}" if how["precision"] else ""),
        ]

    def annotations(self, slide: str, scale: float = 1.0) -> list[Annotation]:
        """The labels of ``slide`` as if somebody had drawn them, their coordinates times ``scale``."""
        return [
            Annotation(shapely.box(*(scale * np.array(box))), label, score < self.sure_thresh, score)
            for label, box, score in self.slides[slide]
        ]


def add_pseudo_labels(manifest: Manifest, labels: PseudoLabels, *, shuffled: bool = False) -> Manifest:
    """``manifest`` with boxes on its unlabelled tiles, cut from ``labels`` as those of annotated objects are.

    Of tiles without a box as many stay as of an annotated slide. All boxes get a ``score``, that of a person's being 1.
    ``shuffled`` gives every slide the labels of another one (at their place in micrometres): a placebo.

    Raises:
        UserError: a slide has no labels, or a label is of a class that the tiles do not have.
    """
    tiles = manifest.tiles[~manifest.tiles["labelled"]]
    mpp = tiles.groupby("slide", sort=False)["slide_mpp"].first()
    _check_fit(manifest, labels, mpp.index)
    names = list(mpp.index)
    order = list(np.random.default_rng(0).permutation(names)) if shuffled else []
    source = dict(zip(names, names, strict=True)) | dict(zip(order, np.roll(order, 1), strict=True))
    kept: list[PlannedTile] = []
    for slide, rows in tiles.groupby("slide", sort=False):
        spec = PairSpec.of(manifest.provenance["parameters"])
        found = labels.annotations(source[slide], scale=mpp[source[slide]] / mpp[slide])
        index = BoxIndex(found, spec.box_rule(mpp[slide]))
        planned = [_planned(row, index) for row in rows.to_dict("records")]
        kept += [tile for tile in thin_out(planned, spec) if tile.kind in KEPT_KINDS]
    cut = [{**row, "score": box.score} for tile in kept for row, box in zip(box_rows(tile), tile.boxes, strict=True)]
    columns = {**BOXES_COLUMNS, "score": "float64"}
    boxes = pd.concat([manifest.boxes.assign(score=1.0), pd.DataFrame(cut, columns=list(columns)).astype(columns)])
    num_boxes = {tile.tile_id: sum(not box.ignore for box in tile.boxes) for tile in kept}
    labelled = manifest.select(manifest.tiles["labelled"] | manifest.tiles["tile_id"].isin(num_boxes)).tiles
    counts = labelled["tile_id"].map(num_boxes).fillna(labelled["num_boxes"]).astype("int64")
    return replace(
        manifest,
        tiles=labelled.assign(num_boxes=counts),
        boxes=boxes.reset_index(drop=True),
        has_pseudo_labels=True,
    )


def _planned(row: Mapping[str, Any], index: BoxIndex) -> PlannedTile:
    """A tile of the manifest with the boxes that ``index`` has on it."""
    region = Region(row["x_l0"], row["y_l0"], row["width_l0"], row["height_l0"])
    boxes = index.boxes(region)
    return PlannedTile(row["tile_id"], region, row["tissue"], boxes, "object" if boxes else "empty")


def _check_fit(manifest: Manifest, labels: PseudoLabels, slides: Iterable[str]) -> None:
    if absent := [name for name in slides if name not in labels.slides]:
        raise UserError(
            f"no labels of the slide {absent[0]}, which is in {manifest.root}", path=labels.root, remedy=_AGAIN
        )
    classes = {label for found in labels.slides.values() for label, _, _ in found}
    if unknown := sorted(classes - set(manifest.labels)):
        raise UserError(
            f"labels of the class {unknown[0]!r}, and the tiles have {', '.join(manifest.labels)}",
            path=labels.root,
            remedy="make them with a detector that was trained on these tiles",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such labels", path=path, remedy=_AGAIN) from None
    except (OSError, ValueError) as error:
        raise UserError(f"damaged: {error}", path=path, remedy=_AGAIN) from error
    if not isinstance(content, dict):
        raise UserError("damaged: not an object", path=path, remedy=_AGAIN)
    return content

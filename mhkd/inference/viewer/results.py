"""The results in a folder, each with the slide that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mhkd.inference.export.csv import read_csv
from mhkd.inference.export.features import detection_ids, hex_color, sizes_um
from mhkd.inference.summary import iter_summaries
from mhkd.inference.viewer.deep_zoom import OVERLAP_PX, TILE_PX, DeepZoom
from mhkd.structures import SlideDetections
from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc
from preprocess.slides.damaged_slide import DamagedSlide
from preprocess.slides.files import neutral_name
from preprocess.slides.naming import content_of
from preprocess.slides.search import SlideFile
from preprocess.slides.slide import Slide


@dataclass(frozen=True)
class SlideView:
    """What was found on one slide, and where the slide lies: None where it is not known."""

    folder: Path
    summary: dict[str, Any]
    path: Path | None

    @property
    def name(self) -> str:
        """What the names of its results begin with."""
        return str(self.summary["name"])

    @property
    def version(self) -> str:
        """Another one for another slide or search, so that a browser does not mix up what it has kept of both."""
        status = self.path.stat() if self.path is not None and self.path.is_file() else None
        parts = (self.path, status and (status.st_size, status.st_mtime_ns), self.summary)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def detections(self) -> SlideDetections:
        """Best first, in level-0 pixels. Raises UserError where the table is missing or damaged."""
        return read_csv(self.folder / f"{self.name}.csv", tuple(self.summary["detections"]["by_class"]))[0]

    def open(self) -> Slide:
        """The slide, with the pixel size that it was searched with; places that cannot be read are white.

        Raises:
            UserError: the slide is missing or another one.
        """
        if self.path is None:
            raise UserError(
                "where this slide lies was not said",
                path=self.summary["slide"],
                remedy="name it, or its folder, after the folder of the results",
            )
        given = self.summary["mpp"] if self.summary["mpp_source"].startswith("given") else None
        slide = DamagedSlide.open(self.path, mpp=given, fallback_mpp=self.summary["mpp"])
        if (content := self.summary.get("content")) and content_of(self.path) != content:
            slide.close()
            raise UserError(
                "this is not the slide that was searched, though it has its name",
                path=self.path.name,
                remedy="give the slide that the results are of; a slide that changed since is searched again",
            )
        if [slide.size.width, slide.size.height] != self.summary["size_l0"]:
            slide.close()
            raise UserError(
                f"this slide has {slide.size.width} x {slide.size.height} px, and the one that was searched "
                f"{self.summary['size_l0'][0]} x {self.summary['size_l0'][1]}",
                path=self.path.name,
                remedy="give the slide that the results are of",
            )
        return slide

    def describe(self, zoom: DeepZoom) -> dict[str, Any]:
        """What the page in the browser needs, as plain JSON: file names, no paths. Boxes are in the display frame."""
        found = self.detections()
        keys = ("id", "label", "score", "diameter_um", "box")
        rows = zip(
            detection_ids(found, self.name),
            found.labels.tolist(),
            found.scores.tolist(),
            sizes_um(found, zoom.slide.mpp_xy)[:, 2].round(1).tolist(),
            zoom.to_display(found.boxes_l0).round(2).tolist(),
            strict=True,
        )
        return {
            "name": self.name,
            "slide": self.summary["slide"],
            "version": self.version,
            "width": zoom.size.width,
            "height": zoom.size.height,
            "tile_px": TILE_PX,
            "overlap_px": OVERLAP_PX,
            "min_level": zoom.min_level,
            "max_level": zoom.max_level,
            "mpp": zoom.mpp,
            "searched_mm2": self.summary["tissue_mm2"] - self.summary["unreadable_tissue_mm2"],
            "score_thresh": self.summary["score_thresh"],
            "warnings": self.summary["warnings"],
            "classes": [{"name": name, "color": hex_color(i)} for i, name in enumerate(found.class_names)],
            "detections": [dict(zip(keys, row, strict=True)) for row in rows],
        }


def find_views(output_dir: str | Path, files: Sequence[SlideFile]) -> list[SlideView]:
    """The results in ``output_dir``, by name, each with its slide among ``files``.

    A slide is known by its file name. Where several have that name, or neutral names were given, it is known by its
    content.

    Raises:
        UserError: there are no results.
        OSError: a slide cannot be read.
    """
    folder = Path(output_dir)
    summaries = list(iter_summaries(folder))
    if not summaries:
        raise UserError(
            "no results of a search" if folder.is_dir() else "no such folder",
            path=folder,
            remedy="give the folder that mhkd infer wrote to with --output-dir",
        )
    content = cache(content_of)  # of each slide once
    views = [SlideView(folder, summary, _slide_of(summary, files, content)) for summary in summaries]
    shown = {view.path for view in views}
    if others := [file.path.name for file in files if file.path not in shown]:
        note(f"{len(others)} slides without results in {folder} are not shown, such as {others[0]}")
    return views


def _slide_of(
    summary: dict[str, Any], files: Sequence[SlideFile], content: Callable[[Path], str | None]
) -> Path | None:
    named = [file for file in files if summary["name"] == file.name or summary["slide"] == nfc(file.path.name)]
    if len(named) == 1 or not (named or summary["anonymized"]):
        return named[0].path if named else None
    for file in named or files:
        found = content(file.path)
        if found and (found == summary.get("content") or neutral_name(found) == summary["name"]):
            return file.path
    return named[0].path if named else None

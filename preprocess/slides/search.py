"""Which slides a user means: files, folders, patterns and tables, as a list of slides."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.base.images import opencv_name
from preprocess.slides.files import series_of
from preprocess.slides.readers.ome_tiff import PlainTiffReader
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.table import read_slides_csv, slide_rows

# A file that is named like a slide is one, also where nothing can be recognised in it any more: left out in silence,
# a damaged slide would be missing from the results.
_SLIDE_SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".czi"}


@dataclass(frozen=True)
class SlideFile:
    """One slide to look at, and what the table that it stands in says of it.

    ``mpp`` in um per level-0 pixel; ``annotation`` is a file and ``origin`` where it counts from. ``alias`` is a
    neutral name that outputs use in the place of the slide's own, ``label`` what tells it from others of its name.
    """

    path: Path
    mpp: float | None = None
    patient: str | None = None
    annotation: Path | None = None
    origin: str | None = None
    alias: str | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """What the names of its outputs begin with."""
        return self.alias or self.label or safe_name(self.path)

    @property
    def file_name(self) -> str:
        """What its outputs call the slide."""
        return f"{self.alias}{self.path.suffix.lower()}" if self.alias else self.path.name


def find_slides(arguments: Sequence[str | Path], *, leave_out: Path | None = None) -> list[SlideFile]:
    """The slides that ``arguments`` name, each once, in their order, those of a folder or a pattern by name.

    An argument is a file (which need not exist), a folder, a pattern such as ``slides/**/*.svs``, or a table ``*.csv``
    for ``preprocess.slides.table.read_slides_csv``. Folders are searched through, but for hidden files and
    ``leave_out``, for what a reader recognises, or is named like a slide; of a DICOM series one file is taken. Plain
    images, mostly labels and thumbnails, are taken only where the folder has no slide at all. Raises UserError where a
    folder, a pattern or a table holds no slide.
    """
    found: dict[Path, SlideFile] = {}
    for argument in arguments:
        for slide in _expand(Path(argument), leave_out):
            place = slide.path.resolve()
            # A row of a table says more than a path alone.
            if place not in found or found[place] == SlideFile(found[place].path):
                found[place] = slide
    return list(found.values())


def _expand(path: Path, leave_out: Path | None) -> Iterator[SlideFile]:
    if path.is_dir():
        yield from map(SlideFile, _search(path, leave_out))
    elif path.suffix.lower() == ".csv":
        yield from _rows(path)
    elif not path.exists() and glob.has_magic(str(path)):
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise UserError("no file is named like this", path=path, remedy="check the pattern")
        names_suffix = bool(path.suffix) and not glob.has_magic(path.suffix)
        for match in matches:
            # A pattern such as * also matches what lies beside the slides.
            if not match.is_dir() and (names_suffix or _kind(match) is not None):
                yield SlideFile(match)
    else:
        yield SlideFile(path)


def _rows(path: Path) -> Iterator[SlideFile]:
    for row in slide_rows(read_slides_csv(path, for_training=False)):
        annotation = row["annotation"] and Path(row["annotation"])
        yield SlideFile(Path(row["slide"]), row["mpp"], row["patient"], annotation, row["origin"])


def _search(folder: Path, leave_out: Path | None) -> list[Path]:
    slides: list[Path] = []
    images: list[Path] = []
    series: set[str] = set()
    for path in _files_below(folder, leave_out):
        kind = _kind(path)
        if kind == "dicom":
            number = series_of(path)
            if number in series:
                continue
            series.add(number)
        if kind is not None:
            (images if kind == "image" else slides).append(path)
    if slides and images:
        note(f"{folder}: {len(images)} plain images are not searched, such as {images[0].name} (name them to do so)")
    if not slides and not images:
        raise UserError("no slide in this folder", path=folder, remedy="docs/slides.md lists what is read")
    return slides or images


def _files_below(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError("not readable", path=error.filename, remedy="check its permissions") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        skip = {path.stem for path in map(Path, files) if path.suffix.lower() == ".mrxs"}  # their data
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in skip
            and (leave_out is None or Path(place, name).resolve() != leave_out.resolve())
        )
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def _kind(path: Path) -> str | None:
    """``slide``, ``dicom`` or ``image``; None for all else."""
    if path.suffix.lower() in _SLIDE_SUFFIXES:
        return "slide"
    try:
        if OpenSlideReader.recognises(path):
            return "dicom" if path.suffix.lower() in (".dcm", "") else "slide"
        if PlainTiffReader.recognises(path):
            return "slide"
        return "image" if cv2.haveImageReader(opencv_name(path)) else None
    except OSError:  # whoever opens it can say why
        return "slide"

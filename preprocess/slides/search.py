"""Which slides a user means: files, folders, patterns and tables, as a list of slides."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.base.console import note
from preprocess.base.errors import UserError, printable
from preprocess.base.files import safe_name
from preprocess.base.images import is_result
from preprocess.slides.files import UNREAD_SUFFIXES, series_of
from preprocess.slides.readers.ome_tiff import PlainTiffReader
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.table import read_slides_csv, slide_rows

# A file that is named like a slide or picture is one, also where nothing can be recognised in it, or where its format
# is not read: left out in silence, it would be missing from the results.
_SLIDE_SUFFIXES = {
    *(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".btf", ".tf2", ".tf8"),
    *(".dcm", ".qptiff"),
    *UNREAD_SUFFIXES,
}
_IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jp2", ".j2k", ".jxl", ".png", ".bmp", ".dib", ".gif", ".webp", ".avif", ".heic"),
    *(".heif", ".ppm", ".pgm", ".pnm"),
}
TABLE_SUFFIXES = {".csv", ".tsv"}
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n")  # of those without a suffix
_DICOM_SUFFIXES = {".dcm", ""}
_RESULTS = "results of this program"
_NAMED = 5  # so many names stand in a note


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
        """What its outputs call the slide, on one line."""
        return f"{self.alias}{self.path.suffix.lower()}" if self.alias else printable(self.path.name)


def find_slides(arguments: Sequence[str | Path]) -> list[SlideFile]:
    """The slides that ``arguments`` name, each once, in their order, those of a folder or a pattern by name.

    An argument is a file (which need not exist), a folder, a pattern such as ``slides/**/*.svs``, or a table (*.csv,
    *.tsv) for ``preprocess.slides.table.read_slides_csv``. Folders are searched through, links to others too, for what
    a reader recognises, or is named like a slide or a picture: what cannot be read is among them, and whoever opens it
    can say why. Of a DICOM series one file is taken. A note names what is left out: plain images, mostly labels and
    thumbnails, where the folder has a slide that can be read; hidden files; pictures that are results of ours; and
    links to a slide that is there already.

    Raises:
        UserError: a folder, a pattern or a table holds no slide.
    """
    found: dict[str, SlideFile] = {}
    links: list[Path] = []
    for argument in arguments:
        if not str(argument).strip():  # a variable of a shell without a value; Path would take it for this folder
            raise UserError("the name of a slide is empty", remedy="give a slide, a folder or slides.csv")
        for slide in _expand(Path(argument)):
            # Where links lead to nothing, each is one that is missing.
            place = (os.path.realpath if slide.path.exists() else os.path.abspath)(slide.path)
            if slide.path.suffix.lower() in _DICOM_SUFFIXES:
                place = series_of(Path(place))
            first = found.setdefault(place, slide)
            if slide.path.absolute() != first.path.absolute() and place == os.path.realpath(slide.path):
                links.append(slide.path)
            # A row of a table says more than a path alone.
            if first == SlideFile(first.path) and slide != SlideFile(slide.path):
                found[place] = slide
    if links:
        note(f"{len(links)} names are links to slides that are searched under another one, such as {links[0].name}")
    return list(found.values())


def _expand(path: Path) -> Iterator[SlideFile]:
    if path.is_dir():
        yield from map(SlideFile, _search(path))
    elif path.suffix.lower() in TABLE_SUFFIXES:
        yield from _rows(path)
    elif not path.exists() and glob.has_magic(str(path)):
        matches = [match for match in sorted(map(Path, glob.glob(str(path), recursive=True))) if not match.is_dir()]
        if not matches:
            raise UserError("no file is named like this", path=path, remedy="check the pattern")
        kinds = {match: _kind(match)[0] for match in matches}
        _note(path, [match for match, kind in kinds.items() if kind == "result"], _RESULTS)
        names_suffix = bool(path.suffix) and not glob.has_magic(path.suffix)
        for match, kind in kinds.items():
            # A pattern such as * also matches what lies beside the slides.
            if kind != "result" and (names_suffix or kind is not None):
                yield SlideFile(match)
    else:
        yield SlideFile(path)


def _rows(path: Path) -> Iterator[SlideFile]:
    for row in slide_rows(read_slides_csv(path, for_training=False)):
        annotation = row["annotation"] and Path(row["annotation"])
        yield SlideFile(Path(row["slide"]), row["mpp"], row["patient"], annotation, row["origin"])


def _search(folder: Path) -> list[Path]:
    found: dict[str | None, list[Path]] = defaultdict(list)
    has_readable_slide = False
    for path in _files_below(folder):
        kind, is_sure = _kind(path)
        if kind == "slide" and is_sure:
            has_readable_slide = True
        found[kind].append(path)
    _note(folder, found["result"], _RESULTS)
    _note(folder, found["hidden"], "hidden files")
    if not found["slide"] and not found["image"]:
        raise UserError("no slide in this folder", path=folder, remedy="docs/slides.md lists what is read")
    if not has_readable_slide:
        return found["slide"] + found["image"]
    _note(folder, found["image"], "plain images", " (name them to do so)")
    return found["slide"]


def _note(place: Path, files: Sequence[Path], what: str, advice: str = "") -> None:
    """Say which ``files`` are left out, if there are any: the names of the first."""
    if files:
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        names = ", ".join(file.name for file in files[:_NAMED])
        note(f"{place}: {len(files)} {what} are not searched: {names}{more}{advice}")


def _files_below(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, each folder once, wherever links lead; also folders that cannot be read."""
    unreadable: list[Path] = []

    def keep(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise UserError("not readable", path=folder, remedy="check its permissions") from error
        unreadable.append(Path(error.filename))

    visited: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, onerror=keep, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        skip = {path.stem for path in map(Path, files) if path.suffix.lower() == ".mrxs"}  # their data
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skip)
        yield from (Path(place, name) for name in sorted(files))
    yield from unreadable


def _kind(path: Path) -> tuple[str | None, bool]:
    """``slide``, ``image``, ``result``, ``hidden``, or None for all else; and whether its content was recognised."""
    suffix = path.suffix.lower()
    by_name = "slide" if suffix in _SLIDE_SUFFIXES or path.is_dir() else "image" if suffix in _IMAGE_SUFFIXES else None
    if path.name.startswith("."):  # with "._" those of macOS beside every file
        return (None if by_name is None or path.name.startswith("._") else "hidden"), False
    try:
        if not path.is_file():  # a pipe would be waited for
            return by_name, False
        # Overlays of earlier versions bear no mark.
        old_summary = path.name.endswith(".overlay.jpg") and path.with_name(path.name[: -len("overlay.jpg")] + "json")
        if is_result(path) or (old_summary and old_summary.is_file()):
            return "result", True
        if OpenSlideReader.recognises(path) or PlainTiffReader.recognises(path):
            return "slide", True
        with path.open("rb") as stream:
            if stream.read(8).startswith(_IMAGE_MAGIC):
                return "image", True
    except OSError:  # whoever opens it can say why
        pass
    return by_name, False

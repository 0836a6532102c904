"""The files of one slide, and a fingerprint of their content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import openslide

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.slides.readers.ome_xml import ome_files

UNREAD_SUFFIXES = {
    *(".czi", ".zvi", ".vsi", ".oir", ".lif", ".lof", ".nd2", ".ims", ".isyntax", ".i2syntax", ".kfb", ".kfbf"),
    *(".sdpc", ".dyqx", ".tmap", ".mds", ".mdsx", ".afi"),
}
"""Of slides in formats that OpenSlide has no reader for, or that list other slides."""

# Formats whose slide is a list of the names of others beside it: lines such as ImageFile=a.jpg.
_LISTS = {".vms", ".vmu"}
_MAX_LIST_BYTES = 1 << 20
_TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf2", ".tf8"}
_DICOM_SUFFIXES = {".dcm", ""}
_DICOM_HEADER_BYTES = 1 << 16  # the series is named in the first kilobyte or two
_END_BYTES, _SAMPLE_BYTES, _NUM_SAMPLES = 1 << 16, 1 << 12, 30


def check_file(path: str | Path) -> None:
    """Raise UserError where ``path`` is no file with content, such as a pipe, which would be waited for."""
    path, remedy = Path(path), "copy it again"
    if path.is_dir():
        reason = "a folder" if os.access(path, os.R_OK | os.X_OK) else "a folder that cannot be read"
    elif path.is_symlink() and not path.exists():
        reason = "a link to nothing"
    elif not path.exists():
        reason, remedy = "no such slide", "check the path"
    elif not path.is_file():
        reason = "no regular file"
    elif not path.stat().st_size:
        reason = "an empty file"
    else:
        return
    raise UserError(reason, path=path, remedy=remedy)


def slide_files(path: str | Path) -> list[Path]:
    """``path`` and all files that the slide consists of beside it, these sorted.

    MRXS has a folder; VMS, VMU and an OME-TIFF name the others, and a DICOM slide is a series: the files in the folder
    whose header names it. A slide that cannot be opened is its one file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    companions: list[Path] = []
    if suffix == ".mrxs" and path.with_suffix("").is_dir():
        companions = [file for file in path.with_suffix("").rglob("*") if file.is_file()]
    elif suffix in _LISTS:
        companions = _listed(path)
    elif suffix in _TIFF_SUFFIXES:
        companions = ome_files(path)
    elif suffix in _DICOM_SUFFIXES and _dicom_header(path):
        series = series_of(path).encode()
        # Another series may begin with the same digits.
        named = re.compile(re.escape(series) + rb"(?![0-9.])")
        companions = [file for file in path.parent.iterdir() if named.search(_dicom_header(file))]
    return [path, *sorted(file for file in companions if file != path)]


def _listed(path: Path) -> list[Path]:
    """The files beside ``path`` that its lines name."""
    try:
        with path.open("rb") as stream:
            lines = os.fsdecode(stream.read(_MAX_LIST_BYTES)).splitlines()
    except OSError:
        return []
    names = {line.partition("=")[2].strip() for line in lines} - {""}
    return [path.with_name(name) for name in names if "/" not in name and path.with_name(name).is_file()]


def series_of(path: Path) -> str:
    """What the files of one DICOM slide have in common; the path of another file, or where it cannot be opened."""
    if not _dicom_header(path):
        return str(path)
    try:
        with openslide.OpenSlide(path) as slide:
            return str(slide.properties.get("dicom.SeriesInstanceUID") or slide.properties["openslide.quickhash-1"])
    except (openslide.OpenSlideError, KeyError):
        return str(path)


def _dicom_header(path: Path) -> bytes:
    """The beginning of a DICOM file; empty where it is none."""
    if not path.is_file():  # a pipe would be waited for
        return b""
    try:
        with path.open("rb") as stream:
            header = stream.read(_DICOM_HEADER_BYTES)
    except OSError:
        return b""
    return header if header[128:132] == b"DICM" else b""


def file_states(path: str | Path) -> list[tuple[str, int, int]] | None:
    """Name, size and time of change (ns) of each file of the slide ``path``; None where it is missing.

    They tell whether a slide changed without reading it. Names are relative to its folder.
    """
    path = Path(path)
    try:
        files = [(file, file.stat()) for file in slide_files(path)]
    except OSError:
        return None
    return [(file.relative_to(path.parent).as_posix(), s.st_size, s.st_mtime_ns) for file, s in files]


def slide_sha256(path: str | Path) -> str:
    """The SHA-256 of the slide's file; of several files, that of the list of theirs as ``sha256sum`` writes it."""
    path = Path(path)
    hashes = [(sha256_of(file), file.relative_to(path.parent).as_posix()) for file in slide_files(path)]
    if len(hashes) == 1:
        return hashes[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in hashes).encode()).hexdigest()


def neutral_name(content: str) -> str:
    """A name for a slide that tells nothing but what its ``content``, its fingerprint, is."""
    return f"slide-{content[:12]}"


def is_neutral(name: str) -> bool:
    """Whether ``name`` tells nothing: that of :func:`neutral_name`, or of a slide that could not be read."""
    return re.fullmatch(r"slide-[0-9a-f]{12}|unreadable-\d+", name) is not None


def fingerprint(path: str | Path) -> str:
    """A hash of the slide's sizes and of samples of its content: 64 hexadecimal digits.

    A copy has the same one, whichever of its files is named. About 250 KiB of each file are read: the ends, where
    headers and directories are, and thirty places between. Raises OSError where a file cannot be read.
    """
    digests = sorted(map(_sampled, slide_files(path)))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _sampled(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        for offset, length in _places(size):
            stream.seek(offset)
            digest.update(stream.read(length))
    return digest.hexdigest()


def _places(size: int) -> Iterator[tuple[int, int]]:
    if size <= 2 * _END_BYTES + _NUM_SAMPLES * _SAMPLE_BYTES:
        yield 0, size
        return
    yield 0, _END_BYTES
    step = (size - 2 * _END_BYTES) / (_NUM_SAMPLES + 1)
    for i in range(1, _NUM_SAMPLES + 1):
        yield _END_BYTES + int(i * step), _SAMPLE_BYTES
    yield size - _END_BYTES, _END_BYTES

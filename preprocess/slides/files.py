"""The files of one slide, and a fingerprint of their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

# Formats whose slide is one file and others beside it that begin with its name.
_NAMED_ALIKE = {".vms", ".vmu"}
_END_BYTES, _SAMPLE_BYTES, _NUM_SAMPLES = 1 << 16, 1 << 12, 30


def slide_files(path: str | Path) -> list[Path]:
    """``path`` and the files that belong to it by their names: MRXS has a folder, VMS and VMU have neighbours.

    The other files of a DICOM series cannot be known by their names and are not among them.
    """
    path = Path(path)
    companions: list[Path] = []
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        companions = [file for file in path.with_suffix("").rglob("*") if file.is_file()]
    elif path.suffix.lower() in _NAMED_ALIKE:
        companions = [file for file in path.parent.glob(f"{path.stem}*") if file.is_file() and file != path]
    return [path, *sorted(companions)]


def neutral_name(content: str) -> str:
    """A name for a slide that tells nothing but what its ``content``, its fingerprint, is."""
    return f"slide-{content[:12]}"


def fingerprint(path: str | Path) -> str:
    """A hash of the slide's sizes and of samples of its content: 64 hexadecimal digits.

    It does not depend on names, folders and times, so a copy has the same one. About 250 KiB of each file are read,
    for whole slides have gigabytes: the ends, where headers and directories are, and thirty places between. Raises
    OSError where a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in slide_files(path):
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

"""Files that are complete or absent: write beside, flush, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pandas import DataFrame

from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc

_SAFE_SIGNS = " ._-()"
_MAX_NAME_BYTES = 120  # file systems take 255, and outputs add their suffixes
DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, because many writers choose the format by it. Whatever
    ends the block (an error, Ctrl-C) removes the temporary file, so a reader never sees half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in DISK_FULL and error.filename is None:  # a write knows no name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive_use(folder: str | Path) -> Iterator[None]:
    """Keep other processes out of ``folder`` that ask for it too; a lock of a process that died is none.

    Where the file system knows no locks nobody is kept out. Raises UserError if the folder is in use.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError("another process is at work here", path=folder, remedy="wait for it, or end it") from None
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        lock.release()


def remove_temporaries(folder: str | Path) -> None:
    """Remove what :func:`atomic_path` left in ``folder`` (not below it) when its process was killed."""
    for path in Path(folder).glob(".*.part*"):
        if re.fullmatch(r"\..+\.\d+\.part(\.\w+)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until all files under ``folder`` are on the disk, and the folders that name them.

    Much faster than waiting for each file when it is written: the disk has done most of the work by now.
    """
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN is an error, not a file others cannot read."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def safe_name(path: str | Path) -> str:
    """The stem of ``path`` as the name of a file or folder anywhere: its letters, digits, blanks, and ``._-()``.

    Two stems have two names: where one had to be changed, a hash of it is at the end. Composed letters and letters with
    their accents apart are the same (NFC).
    """
    stem = nfc(Path(path).stem)
    name = _with_safe_signs(stem)
    return name if name == stem else f"{name or 'slide'}-{_short_hash(stem)}"


def distinct_names(paths: Iterable[str | Path]) -> list[str]:
    """A name for each of the different ``paths``: :func:`safe_name`, or where that would be another's, with its folder.

    Names that differ in case only count as one, as some file systems take them. Which folders are in a name depends on
    those that it is told from by them, and not on where all are.
    """
    places = [Path(path) for path in paths]
    names = [safe_name(place) for place in places]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.casefold(), []).append(index)
    for group in groups.values():
        depth = 1
        while len(group) > 1:
            tails = [nfc("/".join(places[index].parts[-depth:])) for index in group]
            depth += 1
            if len(set(tails)) == len(group) or depth > max(len(places[index].parts) for index in group):
                for index, tail in zip(group, tails, strict=True):
                    names[index] = f"{_with_safe_signs(tail).replace('.', '_')}-{_short_hash(tail)}"
                break
    return names


def _with_safe_signs(text: str) -> str:
    """``text`` with underscores for signs that not every system or page takes in a name, and cut to 120 bytes."""
    kept = (sign if sign in _SAFE_SIGNS or unicodedata.category(sign)[0] in "LNM" else "\0" for sign in text)
    name = re.sub("\0+", "_", "".join(kept)).lstrip(". ")
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def relative_path(path: str | Path, folder: str | Path) -> str:
    """``path`` as seen from ``folder``, with slashes."""
    return Path(os.path.relpath(Path(path).absolute(), Path(folder).absolute())).as_posix()


def write_csv(path: Path, table: DataFrame) -> None:
    """Write ``table`` as CSV, atomically; the same table gives the same bytes on every system."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")

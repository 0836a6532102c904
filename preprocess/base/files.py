"""Files that are complete or absent: write beside, flush, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pandas import DataFrame

from preprocess.base.errors import UserError

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
    """The stem of ``path`` in letters, digits, dot, minus and underscore, so that it names one folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem).lstrip(".") or "slide"


def relative_path(path: str | Path, folder: str | Path) -> str:
    """``path`` as seen from ``folder``, with slashes."""
    return Path(os.path.relpath(Path(path).absolute(), Path(folder).absolute())).as_posix()


def write_csv(path: Path, table: DataFrame) -> None:
    """Write ``table`` as CSV, atomically; the same table gives the same bytes on every system."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")

"""Files that are complete or absent: write beside, flush, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pandas import DataFrame

from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SAFE_SIGNS = " ._-()"
_MAX_NAME_BYTES = 120  # file systems take 255, and outputs add their suffixes
DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_ELSEWHERE = "check the path and its permissions, or give another folder"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, because many writers choose the format by it. Whatever
    ends the block (an error, Ctrl-C) removes the temporary file, so a reader never sees half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent, path.suffix)
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


def temporary_path(folder: Path, suffix: str = "") -> Path:
    """A hidden name in ``folder`` that no other process has, on whatever host; for a file or a folder."""
    return folder / f".{uuid.uuid4().hex}.part{suffix}"


@contextmanager
def exclusive_use(folder: str | Path, *, part: str | None = None, below: Sequence[str] = ()) -> Iterator[bool]:
    """Keep other processes, on whatever host, out of ``folder`` that ask for it too; it is made if it is missing.

    The lock of a process that died is none. Whoever has the folder alone also removes what processes that were killed
    left there half-written. Where the file system (or Windows) knows no such locks nobody is kept out, nothing is
    removed, and the block gets False.

    Args:
        part: keep out only those who ask for this part too, or for the whole folder.
        below: folders in it that are cleared of what is half-written as well.

    Raises:
        UserError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    with ExitStack() as locks:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_held = locks.enter_context(_lock(folder / ".lock", shared=bool(part)))
            if part:
                locks.enter_context(_lock(folder / f".{part}.lock"))
        except FileExistsError as error:
            raise UserError("is not a folder", path=error.filename, remedy=_ELSEWHERE) from None
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            reason = f"cannot be written to: {(error.strerror or '').lower()}"
            raise UserError(reason, path=folder, remedy=_ELSEWHERE) from error
        places = [folder, *(folder / name for name in below)] if is_held and not part else []
        for place in places:
            remove_temporaries(place)
        try:
            yield is_held
        finally:
            for place in places:
                remove_temporaries(place)


@contextmanager
def _lock(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold a lock on ``path``, which others may share; False where the file system knows none."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_held = _flock(descriptor, shared)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                "another process is at work here", path=path.parent, remedy="wait for it, or end it"
            ) from None
        if not is_held or _is_same(descriptor, path):
            break
        os.close(descriptor)  # whoever had it has just removed it
    try:
        yield is_held
    finally:
        if is_held and not shared:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _flock(descriptor: int, shared: bool) -> bool:
    """Whether the file is locked now; BlockingIOError where another process has locked it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_temporaries(folder: str | Path) -> None:
    """Remove what is half-written in ``folder`` (not below it), which nobody must be at work in."""
    for path in Path(folder).glob(".*.part*"):
        if re.fullmatch(r"\.[0-9a-f]{32}\.part(\..*)?", path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until all files under ``folder`` are on the disk, and the folders that name them.

    Much faster than waiting for each file when it is written: the disk has done most of the work by now.
    """
    for path in (*folder.rglob("*"), folder):
        is_folder = path.is_dir()
        if is_folder and not hasattr(os, "O_DIRECTORY"):  # Windows opens none
            continue
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)  # Windows syncs what it may write
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically; what cannot be in UTF-8 becomes an escape."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


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
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8", errors="backslashreplace")

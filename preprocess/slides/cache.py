"""A local copy of a slide on slow network storage, for as long as it is read."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.files import DISK_FULL, exclusive_use
from preprocess.slides.files import slide_files

_PREFIX, _YOUNG_SECONDS = "mhkd-", 60.0


@contextmanager
def local_copy(slide: Path, cache_dir: Path | None) -> Iterator[Path]:
    """The path to read ``slide`` from: a copy in ``cache_dir``, removed afterwards, or the slide where that is None.

    A slide of several files is copied whole. Without room for the copy it is read where it is, with a note. Copies that
    a killed process left are removed. Raises UserError, as reading does, with the path of the slide
    itself; also where the copy is not as long as the slide.
    """
    if cache_dir is None or not slide.is_file():
        yield slide
        return
    cache_dir.mkdir(parents=True, exist_ok=True)
    _remove_orphans(cache_dir)
    folder = cache_dir / f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        with exclusive_use(folder):
            (folder / "copy").mkdir()
            path = _copy(slide, folder / "copy")
            try:
                yield path or slide
            except UserError as error:
                if path is None or error.path is None or Path(error.path) != path:
                    raise
                raise UserError(error.reason, path=slide, remedy=error.remedy) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(slide: Path, folder: Path) -> Path | None:
    """The copy of ``slide`` in ``folder``, or None where there is no room for it."""
    files = slide_files(slide)
    try:
        if sum(file.stat().st_size for file in files) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        for file in files:
            copy = folder / file.relative_to(slide.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            if copy.stat().st_size != file.stat().st_size:
                raise UserError(
                    "changed while it was copied to the cache", path=file, remedy="run the same command again"
                )
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        note(f"{slide.name}: read in place, no room for it in the cache {folder.parents[1]}")
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder / slide.name


def _remove_orphans(cache_dir: Path) -> None:
    """Remove copies whose process is gone, of whatever host: nobody holds their lock."""
    for folder in cache_dir.glob(f"{_PREFIX}*"):
        try:
            # One that is being made has no lock yet.
            if time.time() - folder.stat().st_mtime < _YOUNG_SECONDS:
                continue
            with exclusive_use(folder) as is_held:
                if is_held:
                    shutil.rmtree(folder, ignore_errors=True)
        except (UserError, OSError):  # it is in use, or was removed meanwhile
            continue

"""Folders as laboratories have them: slides, pictures, and what else lies there under such names."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.images import write_image
from preprocess.slides.search import find_slides
from preprocess.slides.slide import Slide


def _picture(width: int, height: int) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        path = place.with_suffix(".png")
        path.write_bytes(cv2.imencode(".png", np.full((height, width, 3), 200, np.uint8))[1].tobytes())
        return path

    return write


def _text(suffix: str) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        path = place.with_name(place.name + suffix)
        path.write_bytes(b"BM no picture")
        return path

    return write


def _link(target: str) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        path = place.with_suffix(".jpg")
        path.symlink_to(target or path.name)
        return path

    return write


def _pipe(place: Path) -> Path:
    os.mkfifo(place.with_suffix(".jpeg"))
    return place.with_suffix(".jpeg")


def _nameless_pipe(place: Path) -> None:
    os.mkfifo(place)


def _empty(place: Path) -> Path:
    place.with_suffix(".jpg").touch()
    return place.with_suffix(".jpg")


def _folder_like_a_picture(place: Path) -> Path:
    place.with_suffix(".tif").mkdir()
    return _text(".svs")(place.with_suffix(".tif") / place.name)


def _link_to_itself(place: Path) -> None:
    place.mkdir()
    (place / "up").symlink_to("..")


def _odd_name(name: bytes) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        return _picture(9, 9)(Path(os.fsdecode(os.fsencode(place) + name)))

    return write


def _ours(place: Path) -> Path:
    write_image(place.with_suffix(".jpg"), np.zeros((9, 9, 3), np.uint8))
    return place.with_suffix(".jpg")


def _of_macos(place: Path) -> None:
    (place.parent / f"._{place.name}.svs").write_bytes(b"\0\5\x16\7")


ITEMS: tuple[Callable[[Path], Path | None], ...] = (
    *(_picture(40, 30), _picture(5000, 3), _picture(3, 5000), _picture(1, 1)),
    *(_text(suffix) for suffix in (".jpg", ".png", ".svs", ".czi", ".vsi", ".mrxs", ".dcm", ".tif", ".TIFF")),
    *(_link("/nowhere/at/all.jpg"), _link(""), _pipe, _nameless_pipe, _empty, _folder_like_a_picture, _link_to_itself),
    *(_odd_name(b"new\nline"), _odd_name(b"\xe4"), _odd_name(b"\x1b[31m"), _odd_name("腎".encode())),
    *(_ours, _of_macos),
)
"""Each puts something into a folder and returns what of it is named like a slide or a picture."""


def check_folder(path: Path) -> None:
    """AssertionError unless a search of the folder that the bytes of ``path`` describe accounts for what is in it."""
    folder = path.with_name("folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    plan = path.read_bytes()[:20]
    made = {ITEMS[byte % len(ITEMS)](folder / str(number)) for number, byte in enumerate(plan)} - {None}
    with contextlib.redirect_stderr(io.StringIO()) as notes:
        found = find_slides([folder])
    left_out = len(made) - len(found)
    assert {slide.path for slide in found} <= made
    assert sum(int(line.split(": ", 2)[2].split()[0]) for line in notes.getvalue().splitlines()) == left_out
    for slide in found:
        assert slide.file_name.isprintable()
        with contextlib.suppress(UserError), Slide.open(slide.path, 0.5) as opened:
            opened.thumbnail(64)

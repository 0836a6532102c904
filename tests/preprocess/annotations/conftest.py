"""What the tests of every format share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from preprocess.annotations import read_annotations
from preprocess.base.geometry import Region, Size

SLIDE_SIZE = Size(1000, 800)


@dataclass(frozen=True)
class Frame:
    """What annotations may know of a slide; its header says nothing."""

    name: str = "slide"
    size: Size = SLIDE_SIZE
    mpp_xy: tuple[float, float] = (0.25, 0.25)
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def region(self):
        return Region(0, 0, self.size.width, self.size.height)


@pytest.fixture
def frame():
    return Frame()


@pytest.fixture
def read(tmp_path):
    """Write what a file holds (bytes, text or a JSON value) and read its annotations."""

    def write_and_read(content, slide=None, name="annotations.file"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_annotations(path, slide)

    return write_and_read


@pytest.fixture
def summary():
    """(label, bounds, area) of each annotation, rounded; what a user would check in a viewer."""

    def of(annotations):
        return [
            (a.label, tuple(round(value, 2) for value in a.polygon.bounds), round(a.polygon.area, 1))
            for a in annotations
        ]

    return of

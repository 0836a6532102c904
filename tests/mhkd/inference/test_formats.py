from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.inference.formats import FORMATS, TABLE, in_order
from mhkd.structures import SlideDetections
from preprocess.annotations import read_annotations
from preprocess.base.geometry import Region
from tests.records import CLASSES, FrameOnly, detections, record

READABLE = ("geojson", "coco", "imagescope", "asap", "dsa")
# The others need the pixels of the slide, and have tests of their own.
WITHOUT_PIXELS = ("csv", *READABLE)


def boxes(limit=30_000):
    corner, side = st.floats(0, limit - 500), st.floats(0.5, 500)
    return st.builds(lambda x, y, w, h: (x, y, x + w, y + h), corner, corner, side, side)


def bounds_of(objects):
    """Boxes and labels, sorted, as formats with a layer for each class have another order."""
    return sorted((tuple(round(value, 2) for value in one.polygon.bounds), one.label) for one in objects)


@pytest.mark.parametrize("form", READABLE)
@settings(max_examples=25, deadline=None)
@given(
    found=st.lists(st.tuples(boxes(), st.floats(0, 1), st.integers(0, 1)), min_size=0, max_size=8),
    corner=st.sampled_from([(0, 0), (1600, 800)]),
)
def test_what_is_written_reads_back_to_the_same_boxes(form, found, corner, tmp_path_factory):
    slide = FrameOnly(region=Region(*corner, 20_000, 20_000))
    one = record(detections(*(zip(*found, strict=True) if found else ((), (), ()))), slide)
    path = tmp_path_factory.mktemp("export") / f"a{FORMATS[form].suffix}"
    FORMATS[form].write(path, one)
    origin = "bounds" if form == "geojson" else "slide"  # docs/inference.md
    read = read_annotations(path, slide, origin)
    assert read.num_dropped == 0
    wanted = [
        (tuple(round(value, 2) for value in box), CLASSES[label])
        for box, label in zip(one.detections.boxes_l0.tolist(), one.detections.labels.tolist(), strict=True)
    ]
    got = bounds_of(read)
    assert [label for _, label in got] == [label for _, label in sorted(wanted)]
    np.testing.assert_allclose([box for box, _ in got], [box for box, _ in sorted(wanted)], atol=1e-6)


@pytest.mark.parametrize("form", WITHOUT_PIXELS)
def test_the_same_record_gives_the_same_bytes_and_no_path(form, tmp_path):
    paths = [tmp_path / name / f"a{FORMATS[form].suffix}" for name in ("one", "two")]
    for path in paths:
        FORMATS[form].write(path, record())
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("form", WITHOUT_PIXELS)
def test_a_neutral_name_is_the_only_one_in_a_file(form, tmp_path):
    path = tmp_path / f"x{FORMATS[form].suffix}"
    FORMATS[form].write(path, record(slide=FrameOnly(name="Smith"), name="slide-1", file_name="slide-1.svs"))
    assert b"Smith" not in path.read_bytes()


@pytest.mark.parametrize("form", READABLE)
def test_nothing_found_reads_back_as_nothing(form, tmp_path):
    path = tmp_path / f"a{FORMATS[form].suffix}"
    FORMATS[form].write(path, record(SlideDetections.empty(CLASSES)))
    assert len(read_annotations(path, FrameOnly())) == 0


def test_the_table_is_always_among_the_formats_and_each_comes_once():
    assert in_order(["overlay", "coco", "coco"]) == (TABLE, "coco", "overlay")
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)
    with pytest.raises(KeyError):
        in_order(["yolo"])

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocess.annotations.annotation import collect
from preprocess.annotations.mask_values import border_share, drawings_of_values
from preprocess.annotations.runs import drawings_of_mask
from preprocess.base.errors import UserError

SIDE = 640
discs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(32, 70)), min_size=1, unique_by=lambda d: d[:2]
)


def drawn(places, values):
    """Discs (column, row, radius) of a 4 x 4 grid on 0, each with the next of ``values``, as uint8 or uint16."""
    mask = np.zeros((SIDE, SIDE), np.uint8 if max(values) < 256 else np.uint16)
    for number, (column, row, radius) in enumerate(places):
        cv2.circle(mask, (80 + 160 * column, 80 + 160 * row), radius, values[number % len(values)], -1)
    return mask


def shrunk(mask, factor, interpolation):
    return cv2.resize(mask, (SIDE // factor, SIDE // factor), interpolation=interpolation)


def as_jpeg(mask, quality):
    Image.fromarray(mask).save(stream := io.BytesIO(), "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


BLENDED = {
    "area": lambda m, f: shrunk(m, f, cv2.INTER_AREA),
    "linear": lambda m, f: shrunk(m, f, cv2.INTER_LINEAR),
    "cubic": lambda m, f: shrunk(m, f, cv2.INTER_CUBIC),
    "Lanczos": lambda m, f: shrunk(m, f, cv2.INTER_LANCZOS4),
    "enlarged": lambda m, f: cv2.resize(m, (SIDE * f, SIDE * f), interpolation=cv2.INTER_LINEAR),
    "JPEG": lambda m, f: as_jpeg(m, 100 - 6 * f),
    "reduced and JPEG": lambda m, f: as_jpeg(shrunk(m, f, cv2.INTER_AREA), 90),
    "blurred": lambda m, f: cv2.GaussianBlur(m, (0, 0), f / 4),
}


def boxes(drawings, scale):
    found = collect(drawings)
    bounds = [np.multiply(one.polygon.bounds, scale) for one in found]
    return sorted(bounds, key=lambda box: tuple((box // 160).tolist())), {one.label for one in found}


@pytest.mark.parametrize("kind", BLENDED)
@settings(deadline=None, max_examples=12)
@given(places=discs, factor=st.sampled_from([2, 3, 4, 5, 8]), value=st.sampled_from([2, 3, 100, 255, 65535]))
def test_a_mask_of_two_values_is_read_however_it_was_resized(kind, places, factor, value):
    if "JPEG" in kind:
        value = 255
    elif kind in ("enlarged", "blurred"):
        value = max(value, 100)
    mask = drawn(places, [value])
    blended = BLENDED[kind](mask, factor)
    wanted, _ = boxes(drawings_of_mask(mask, 1.0), 1.0)
    try:
        found, labels = boxes(drawings_of_values(blended, 1.0), SIDE / blended.shape[0])
    except UserError:  # JPEG's noise may be as large as small objects
        assert kind == "reduced and JPEG"
        return
    assert labels == {"Unclassified"}
    np.testing.assert_allclose(found, wanted, atol=2 * factor)


@settings(deadline=None, max_examples=25)
@given(discs, st.lists(st.integers(1, 300), min_size=1, max_size=4, unique=True), st.sampled_from([1, 2, 5, 16]))
def test_a_clean_mask_of_several_values_is_read_as_it_is(places, values, factor):
    mask = shrunk(drawn(places, values), factor, cv2.INTER_NEAREST)
    plain, found = (list(read(mask, 1.0)) for read in (drawings_of_mask, drawings_of_values))
    assert [(one.label, one.geometry.wkb) for one in plain] == [(one.label, one.geometry.wkb) for one in found]


def test_classes_within_a_class_are_read_as_they_are():
    mask = drawn([(1, 1, 70), (2, 2, 60)], [1])
    for value, radius in ((2, 50), (3, 30)):
        cv2.circle(mask, (240, 240), radius, value, -1)
    assert [one.label for one in drawings_of_values(mask, 1.0)] == ["1", "2", "3"]


@pytest.mark.parametrize("values", [[1, 2, 3], [85, 170, 255], [300, 301, 302]], ids=["classes", "greys", "objects"])
@pytest.mark.parametrize("kind", ["area", "linear", "cubic", "enlarged"])
def test_several_values_that_were_blended_are_refused(kind, values):
    mask = drawn([(column, row, 60) for column in range(4) for row in range(4)], values)
    with pytest.raises(UserError, match=r"blended along the edges.*nearest neighbour"):
        list(drawings_of_values(BLENDED[kind](mask, 4), 1.0))


def test_255_around_objects_is_background_and_around_what_was_looked_at_to_be_ignored():
    mask = np.full((100, 120), 255, np.uint8)
    mask[20:40, 20:40] = 1
    background, only = drawings_of_values(mask, 1.0)
    assert background.unused == "255 as background"
    assert (only.label, only.ignore, only.geometry.bounds) == ("Unclassified", False, (20, 20, 40, 40))
    mask[10:90, 10:90] = 0
    mask[20:40, 20:40] = 1
    void, seen = drawings_of_values(mask, 1.0)
    assert (void.label, void.ignore, void.geometry.area) == ("*", True, 120 * 100 - 80 * 80)
    assert (seen.label, seen.ignore, seen.geometry.bounds) == ("Unclassified", False, (20, 20, 40, 40))


def test_255_is_a_class_where_it_is_not_around_everything():
    mask = drawn([(1, 1, 60), (2, 2, 60)], [128, 255])
    assert [(one.label, one.ignore) for one in drawings_of_values(mask, 1.0)] == [("128", False), ("255", False)]


def test_the_share_of_the_border():
    mask = np.zeros((10, 30), bool)
    assert border_share(mask) == 0
    mask[0] = True
    assert border_share(mask) == pytest.approx(32 / 80)
    assert border_share(~mask) == pytest.approx(48 / 80)

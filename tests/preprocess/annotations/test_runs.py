from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from preprocess.annotations import runs
from preprocess.annotations.runs import area_of_column_runs, drawings_of_mask
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size

masks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


@settings(deadline=None)
@given(masks, st.sampled_from([1.0, 4.0]))
def test_every_pixel_is_in_the_area_of_its_value_and_in_no_other(mask, scale):
    drawings = list(drawings_of_mask(mask, scale, offset=(2, 5)))
    values = np.unique(mask[mask > 0]).tolist()
    assert [d.label for d in drawings] == (
        [str(v) for v in values] if len(values) > 1 else ["Unclassified"] * len(values)
    )
    for drawing, value in zip(drawings, values, strict=True):
        rows, columns = np.nonzero(mask == value)
        assert drawing.geometry.area == pytest.approx(len(rows) * scale**2)
        centres = shapely.points((columns + 2.5) * scale, (rows + 5.5) * scale)
        assert shapely.contains(drawing.geometry, centres).all()


@settings(deadline=None)
@given(masks)
def test_strips_do_not_show(mask):
    whole = [d.geometry for d in drawings_of_mask(mask.astype(np.uint16), 1.0)]
    runs._STRIP, before = 2, runs._STRIP
    try:
        stripped = [d.geometry for d in drawings_of_mask(mask.astype(np.uint16), 1.0)]
    finally:
        runs._STRIP = before
    assert all(shapely.equals(a, b) for a, b in zip(whole, stripped, strict=True))


def test_columns():
    assert area_of_column_runs(np.array([3]), np.array([2]), Size(2, 5)).bounds == (0, 3, 1, 5)


def test_noise_is_refused_before_it_takes_all_memory(monkeypatch):
    monkeypatch.setattr(runs, "_MAX_RUNS", 1000)
    noise = np.random.default_rng(0).integers(0, 2, (100, 100), np.uint8)
    with pytest.raises(UserError, match="more than 1000 runs"):
        list(drawings_of_mask(noise, 1.0))
    with pytest.raises(UserError, match="more than 1000 runs"):
        area_of_column_runs(np.array([0]), np.array([2000 * 4]), Size(2000, 4))


def test_more_objects_than_there_can_be():
    with pytest.raises(UserError, match="98 different values"):
        list(drawings_of_mask(np.arange(2, 100, dtype=np.uint8)[None], 1.0))


def test_sizes_beyond_any_image():
    with pytest.raises(ValueError, match="no image has"):
        area_of_column_runs(np.array([0]), np.array([1]), Size(1 << 40, 1 << 40))

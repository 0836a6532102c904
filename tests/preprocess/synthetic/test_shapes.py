"""Sizes and shapes of glomeruli against the real ones they were derived from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from preprocess.synthetic.derive_shapes import derive, radius_profile
from preprocess.synthetic.shapes import DATA_FILE, equal_area_diameter, sample_contour, sample_diameter_um, shape_model

REAL_NORMAL_PERCENTILES_UM = {5: 114, 25: 151, 50: 178, 75: 203, 95: 248}
"""Measured on the 1631 outlines of class Normal."""


def test_diameters_follow_the_real_distribution() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_diameter_um(rng, "Normal") for _ in range(4000)]
    for percentile, expected in REAL_NORMAL_PERCENTILES_UM.items():
        assert np.percentile(drawn, percentile) == pytest.approx(expected, rel=0.06)


def test_sclerotic_glomeruli_are_smaller() -> None:
    rng = np.random.default_rng(0)
    assert np.median([sample_diameter_um(rng, "Sclerotic") for _ in range(500)]) == pytest.approx(111, rel=0.08)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["Normal", "Sclerotic"]), diameter=st.floats(50, 320))
def test_a_contour_is_a_sound_outline_of_the_size_asked_for(seed: int, name: str, diameter: float) -> None:
    outline = Polygon(sample_contour(np.random.default_rng(seed), name, diameter))
    assert outline.is_valid
    assert outline.contains(Point(0, 0))
    assert 2 * np.sqrt(outline.area / np.pi) == pytest.approx(diameter)


def test_a_square_by_hand() -> None:
    square = np.array([(0, 0), (2, 0), (2, 2), (0, 2)])
    assert equal_area_diameter(square) == pytest.approx(4 / np.sqrt(np.pi))
    profile = radius_profile(Polygon(square), num_angles=8)
    assert profile[::2] == pytest.approx(np.full(4, np.sqrt(np.pi) / 2))
    assert profile[1::2] == pytest.approx(np.full(4, np.sqrt(np.pi / 2)))


def test_the_model_is_small_and_names_its_source() -> None:
    text = DATA_FILE.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert "MIT License" in text
    assert "github.com/shuheimisawa/glomeruli_segmentation" in text
    assert len(shape_model()["Normal"].profiles) + len(shape_model()["Sclerotic"].profiles) >= 200


def test_deriving_keeps_sizes_in_um() -> None:
    rng = np.random.default_rng(1)
    polygons = {
        name: [Point(500, 500).buffer(float(rng.uniform(200, 400))) for _ in range(20)]
        for name in ("Normal", "Sclerotic")
    }
    model = derive(polygons)["classes"]["Normal"]
    assert 2 * 200 * 0.25 <= model["diameter_quantiles_um"][0] <= model["diameter_quantiles_um"][-1] <= 2 * 400 * 0.25
    assert np.allclose(model["radius_profiles_permille"], 1000, atol=5)

"""Colour by optical density."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.synthetic.stain import DYES, Stain, make_stain


def test_beer_lambert_by_hand() -> None:
    density = np.diag([0.003, 0.006, 0.0])
    stain = Stain(density, np.array([240.0, 240.0, 240.0]))
    materials = np.array([[[0, 0, 0], [100, 0, 0], [100, 100, 50]]], np.uint8)
    expected = [[240, 240, 240], [240 * 10**-0.3, 240, 240], [240 * 10**-0.3, 240 * 10**-0.6, 240]]
    assert stain.develop(materials)[0] == pytest.approx(np.array(expected), abs=1)


@pytest.mark.parametrize("name", ["HE", "PAS"])
def test_nuclei_are_blue_and_matrix_is_red(name: str) -> None:
    materials = np.array([[[0, 0, 0], [90, 0, 0], [0, 0, 90]]], np.uint8)
    for seed in range(20):
        glass, nucleus, matrix = make_stain(np.random.default_rng(seed), name).develop(materials)[0].astype(int)
        assert glass.min() > 225
        assert nucleus[2] > nucleus[0]
        assert matrix[0] > matrix[1]


def test_matrix_is_what_sets_pas_apart() -> None:
    matrix = np.array([[[0, 0, 100]]], np.uint8)
    darkness = {name: make_stain(np.random.default_rng(0), name).develop(matrix).sum() for name in ("HE", "PAS")}
    assert darkness["PAS"] < darkness["HE"]


@pytest.mark.parametrize("name", DYES)
def test_a_wider_spread_moves_colours_further(name: str) -> None:
    materials = np.array([[[80, 0, 0], [0, 80, 0], [0, 0, 80]]], np.uint8)

    def deviation(spread: float) -> float:
        images = [make_stain(np.random.default_rng(seed), name, spread).develop(materials) for seed in range(30)]
        return float(np.std(images, axis=0).mean())

    assert deviation(0.0) < deviation(1.0) < deviation(3.0)
    assert deviation(3.0) > 2 * deviation(1.0)

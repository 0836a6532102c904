"""Real PAS images in other stains: the same structures, other colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.synthetic.restain import materials_of, read_rgb, restain
from preprocess.synthetic.stain import DYES, make_stain


@pytest.fixture(scope="module")
def pas() -> np.ndarray:
    """A PAS image of glass, a nucleus, cytoplasm and membrane side by side, 16 px each."""
    materials = np.zeros((64, 64, 3), np.uint8)
    for index, amounts in enumerate(((0, 0, 0), (100, 0, 0), (0, 100, 0), (0, 0, 120))):
        materials[:, 16 * index : 16 * (index + 1)] = amounts
    return make_stain(np.random.default_rng(3), "PAS").develop(materials)


def test_each_material_is_found_again_where_it_was(pas: np.ndarray) -> None:
    glass, nucleus, cytoplasm, membrane = (materials_of(pas)[8, 8 + 16 * i].astype(int) for i in range(4))
    assert glass.max() <= 5
    assert nucleus.argmax() == 0
    assert cytoplasm.argmax() == 1
    assert membrane.argmax() == 2


@pytest.mark.parametrize("stain", DYES)
def test_every_stain_keeps_glass_bright_and_structures_apart(pas: np.ndarray, stain: str) -> None:
    for seed in range(5):
        image = restain(np.random.default_rng(seed), pas, stain, spread=2.0).astype(int)
        glass, nucleus, cytoplasm, membrane = (image[8, 8 + 16 * i] for i in range(4))
        assert glass.min() > 190
        assert all((glass - tissue).sum() > 40 for tissue in (nucleus, cytoplasm, membrane))
        assert np.abs(nucleus - cytoplasm).max() > 15


def test_collagen_is_blue_in_trichrome_and_black_in_silver(pas: np.ndarray) -> None:
    for seed in range(5):
        blue = restain(np.random.default_rng(seed), pas, "TRICHROME_BLUE", spread=1.0)[8, 56].astype(int)
        assert blue[2] > blue[0]
        black = restain(np.random.default_rng(seed), pas, "SILVER", spread=1.0)[8, 56]
        assert black.max() < 90


def test_an_empty_image_stays_empty() -> None:
    glass = np.full((32, 32, 3), 240, np.uint8)
    assert restain(np.random.default_rng(0), glass, "HE", spread=1.0).min() > 225


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UserError, match="not a readable image"):
        read_rgb(tmp_path / "a.jpg")

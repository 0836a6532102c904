from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pytest

from mhkd.ablation.report import SCORES
from mhkd.ablation.resolution import CURVES, read_resolution
from mhkd.ablation.resolution_plot import draw, write_plots
from tests.mhkd.ablation.test_resolution import TEACHERS, run, write


@pytest.fixture(scope="module")
def resolution(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resolution")
    scales = {
        factor: [run(control, seed, 3 * factor, 70 - factor - seed) for control, seed in product(CURVES[1:], (1, 2))]
        for factor in (2, 4, 8, 16)
    }
    return read_resolution([write(folder / f"s{factor}", [*TEACHERS, *rows]) for factor, rows in scales.items()])


def test_every_point_is_drawn(resolution):
    panels = draw(resolution).axes
    assert len(panels) == 6
    for panel, score in zip(panels, SCORES, strict=False):
        curves = {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
        assert len(curves) == len(CURVES)
        for control, curve in zip(CURVES, curves.values(), strict=True):
            points = resolution.curve(control)
            assert list(curve.get_ydata()) == list(points[score])
            assert curve.get_xdata() == pytest.approx(points["um/px"], rel=0.1)
        assert list(panel.get_xticks()) == [3, 6, 12, 24, 48]
    assert [text.get_text() for text in panels[3].get_xticklabels()] == ["3", "6", "12", "24", "48"]


def test_scales_are_joined_only_where_they_are_neighbours(tmp_path):
    tables = [
        write(tmp_path / "s2", [*TEACHERS, run("strict", 1, 6, 60), run("untrained", 1, 6, 40)]),
        write(tmp_path / "s4", [run("untrained", 1, 12, 20)]),
        write(tmp_path / "s8", [run("strict", 1, 24, 30)]),
    ]
    panel = draw(read_resolution(tables, ["teacher", "untrained", "strict"])).axes[0]
    lines = [np.asarray(line.get_ydata(), float) for line in panel.lines if len(line.get_xdata()) == 4]
    _, untrained, strict = lines
    assert untrained == pytest.approx([67, 40, 20, np.nan], nan_ok=True)  # from the teacher, which it is at 3 um/px
    assert strict == pytest.approx([np.nan, 60, np.nan, 30], nan_ok=True)


def test_curves_differ_without_colour(resolution):
    handles = draw(resolution).axes[-1].get_legend().legend_handles
    looks = {(line.get_marker(), line.get_linestyle(), line.get_markerfacecolor() == "white") for line in handles}
    assert len(looks) == len(CURVES)


def test_files_for_print_are_the_same_each_time(resolution, tmp_path):
    first, second = (write_plots(resolution, tmp_path / name) for name in "ab")
    assert [path.name for path in first] == ["resolution.pdf", "resolution.svg", "resolution.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_bytes().startswith(b"%PDF")
    picture = cv2.imread(str(first[2]))
    assert picture.shape[1] > 1800
    assert np.ptp(picture) == 255

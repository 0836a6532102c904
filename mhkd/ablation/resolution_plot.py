"""The curves against um/px as a figure for print: vector and pixels, legible in grey and to colour-blind readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from mhkd.ablation.report import SCORES
from mhkd.ablation.resolution import UNTRAINED, Resolution, label
from mhkd.ablation.table import TEACHER
from preprocess.base.files import atomic_path
from preprocess.base.images import RESULT_MARK

TITLES = {"AP": "AP (IoU 0.5:0.95)", "F1": "F1 at IoU 0.5", "centre_F1": "centre-hit F1"}
# Okabe and Ito's colours; a marker and a line of its own for each curve, for those who print in grey.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("*", "v", "s", "o", "D", "^", "P")
_STYLES = ("-", ":", "--", "-", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)))
_WIDTH_INCHES = 7.1  # two columns of most journals, 180 mm
_DODGE = 1.025
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mhkd",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# No dates and no versions: equal data give equal files.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
    "png": {"Software": RESULT_MARK},
}


def write_plots(resolution: Resolution, folder: Path) -> list[Path]:
    """Write the figure as PDF, SVG and PNG (300 dpi); their paths."""
    paths = [folder / f"resolution.{suffix}" for suffix in _METADATA]
    with matplotlib.rc_context(_STYLE):
        drawing = draw(resolution)
        for path, (suffix, metadata) in zip(paths, _METADATA.items(), strict=True):
            with atomic_path(path) as temporary:
                drawing.savefig(temporary, format=suffix, dpi=300, metadata=metadata)
    return paths


def draw(resolution: Resolution) -> Figure:
    """A panel for each score: a marker is the mean over seeds, its thick bar their standard deviation, the thin bar
    the bootstrap interval. The teacher's level is a line across."""
    drawing = Figure(figsize=(_WIDTH_INCHES, 4.7), layout="constrained")
    panels = drawing.subplots(2, 3, sharex=True, sharey=True).ravel()
    scales = sorted(resolution.points["um/px"].unique())
    for panel, score in zip(panels, SCORES, strict=False):
        for place, control in enumerate(resolution.controls):
            dodge = _DODGE ** (place - (len(resolution.controls) - 1) / 2)
            _draw_curve(panel, resolution, control, score, dodge, _look(place))
        panel.set_xscale("log", base=2)
        panel.set(title=TITLES.get(score, score), ylim=(0, 100), xlim=(scales[0] / 1.25, scales[-1] * 1.25))
        panel.set_xticks(scales, labels=[f"{mpp:g}" for mpp in scales])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.25, linewidth=0.5)
    for panel in panels[2 : len(SCORES)]:
        panel.set_xlabel("um/px")
        panel.tick_params(labelbottom=True)
    for panel in panels[::3]:
        panel.set_ylabel("percent")
    panels[-1].set_axis_off()
    handles = [
        Line2D([], [], label=label(control), **_look(place)) for place, control in enumerate(resolution.controls)
    ]
    panels[-1].legend(handles=handles, loc="center", frameon=False, handlelength=3.2)
    return drawing


def _draw_curve(
    panel: Axes, resolution: Resolution, control: str, score: str, dodge: float, look: dict[str, Any]
) -> None:
    points = resolution.curve(control)
    if control == TEACHER:
        panel.axhline(points[score].mean(), color=look["color"], linewidth=0.6, alpha=0.6, linestyle=(0, (1, 2)))
    # The teacher as it is starts at the teacher: at that um/px it is the teacher.
    line = points if control != UNTRAINED else pd.concat([resolution.curve(TEACHER), points])
    # Only neighbouring scales are joined: across one that was not run nothing is known.
    line = line.set_index("um/px")[score].reindex(sorted(resolution.points["um/px"].unique()))
    panel.plot(line.index * dodge, line, **look | {"marker": ""})
    x, mean = points["um/px"] * dodge, points[score]
    ends = np.array([mean - points[f"{score} low"], points[f"{score} high"] - mean]).clip(min=0)
    panel.errorbar(x, mean, yerr=ends, fmt="none", ecolor=look["color"], elinewidth=0.6, alpha=0.7)
    panel.errorbar(x, mean, yerr=points[f"{score} sd"].fillna(0), fmt="none", ecolor=look["color"], elinewidth=2.2)
    panel.plot(x, mean, label=label(control), **look | {"linestyle": ""}, clip_on=False)


def _look(place: int) -> dict[str, Any]:
    """Colour, marker and line of a curve; every other marker is hollow."""
    colour = _COLOURS[place % len(_COLOURS)]
    return {
        "color": colour,
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _STYLES[place % len(_STYLES)],
        "markerfacecolor": colour if place % 2 == 0 else "white",
        "markersize": 4.5,
        "linewidth": 1.1,
    }

"""Pictures of an evaluation: FROC, precision and recall, and the agreement of counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mhkd.evaluation.matching import PER_MM2, PER_SLIDE, froc_curve
from mhkd.evaluation.metrics import SlideMetrics
from preprocess.base.files import atomic_path
from preprocess.base.images import RESULT_MARK

PLOTS = ("froc.png", "precision_recall.png", "bland_altman.png")

# Okabe and Ito's colours, which colour-blind readers can tell apart, and line styles for those who print in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")


def write_plots(folder: str | Path, metrics: Mapping[str, SlideMetrics]) -> list[Path]:
    """Write ``PLOTS`` into ``folder``, each atomically and with all models of ``metrics``; their paths."""
    drawings = (draw_froc(metrics), draw_precision_recall(metrics), draw_bland_altman(metrics))
    paths = [Path(folder) / name for name in PLOTS]
    for path, drawing in zip(paths, drawings, strict=True):
        with atomic_path(path) as temporary:
            drawing.savefig(temporary, dpi=120, metadata={"Software": RESULT_MARK})
    return paths


def draw_froc(metrics: Mapping[str, SlideMetrics]) -> Figure:
    """Share of the objects found against false detections per slide and per mm2 of tissue, at IoU 0.5."""
    drawing = Figure(figsize=(11, 4.5), layout="constrained")
    axes = drawing.subplots(1, 2, sharey=True)
    for i, (name, one) in enumerate(metrics.items()):
        tissue_mm2 = sum(slide.tissue_mm2 for slide in one.slides)
        for axis, amount in zip(axes, (len(one.slides), tissue_mm2), strict=True):
            if amount > 0:
                false, share = froc_curve(one.matches, amount)
                axis.step(false, 100 * share, where="post", label=name, **_look(i))
                _mark_threshold(axis, one, false, 100 * share, i)
    for axis, unit, rates in zip(axes, ("slide", "mm2 of tissue"), (PER_SLIDE, PER_MM2), strict=True):
        axis.set_xscale("symlog", linthresh=rates[0])
        axis.set_xlim(0, max(axis.get_xlim()[1], rates[-1]))
        axis.set(xlabel=f"false detections per {unit}", ylim=(0, 101))
        axis.set_xticks([0, *rates], labels=["0", *(f"{rate:g}" for rate in rates)], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("objects found (%)")
    axes[0].legend(title="model (o: at its threshold)", loc="lower right")
    return drawing


def draw_precision_recall(metrics: Mapping[str, SlideMetrics]) -> Figure:
    """Precision against recall at IoU 0.5, with the point of each model's threshold."""
    drawing = Figure(figsize=(5.5, 5), layout="constrained")
    axis = drawing.subplots()
    for i, (name, one) in enumerate(metrics.items()):
        hits, misses = one.matches.cumulative()
        recall = 100 * hits / max(int(one.matches.num_objects.sum()), 1)
        precision = 100 * hits / np.maximum(hits + misses, 1)
        axis.plot(recall, precision, label=name, **_look(i))
        _mark_threshold(axis, one, recall, precision, i)
    axis.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 101), ylim=(0, 101))
    axis.grid(alpha=0.3)
    axis.legend(title="model (o: at its threshold)", loc="lower left")
    return drawing


def draw_bland_altman(metrics: Mapping[str, SlideMetrics]) -> Figure:
    """Found minus true objects against their mean, a point a slide, with bias and limits of agreement; one panel a
    model."""
    columns = min(3, max(len(metrics), 1))
    rows = math.ceil(max(len(metrics), 1) / columns)
    drawing = Figure(figsize=(4.5 * columns, 3.8 * rows), layout="constrained")
    panels = drawing.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for i, (panel, (name, one)) in enumerate(zip(panels, metrics.items(), strict=False)):
        right, wrong = one.matches.per_image(one.result["score_thresh"])
        found, true = right + wrong, one.matches.num_objects
        counts = one.result["counts"]
        panel.scatter((found + true) / 2, found - true, s=22, color=_look(i)["color"], alpha=0.8)
        for key, style in (("bias", "-"), ("lower", "--"), ("upper", "--")):
            if counts[key] is not None:
                panel.axhline(counts[key], color="black", linestyle=style, linewidth=1)
                place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
                panel.annotate(f"{counts[key]:+.1f}", (1, counts[key]), fontsize=8, **place)
        icc = "" if counts["icc"] is None else f", ICC(2,1) {counts['icc']:.3f}"
        panel.set(title=f"{name}{icc}", xlabel="mean of found and true objects of a slide")
        panel.axhline(0, color="grey", linewidth=0.5)
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("found - true")
    return drawing


def _look(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _STYLES[i % len(_STYLES)], "linewidth": 1.6}


def _mark_threshold(axis: Axes, one: SlideMetrics, x: np.ndarray, y: np.ndarray, i: int) -> None:
    """A ring where the model's threshold lies on its curve."""
    above = int((one.matches.thresholds() >= one.result["score_thresh"]).sum())
    if above:
        axis.plot(x[above - 1], y[above - 1], "o", color=_look(i)["color"], markerfacecolor="white")

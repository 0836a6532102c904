from __future__ import annotations

import cv2
import numpy as np

from mhkd.evaluation.metrics import SlideMetrics
from mhkd.evaluation.plots import PLOTS, draw_bland_altman, draw_froc, draw_precision_recall, write_plots
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide
from mhkd.structures import SlideDetections

NAMES = ("glomerulus",)


def metrics(found=3):
    slides = []
    for i in range(3):
        boxes = np.array([[300 * k, 0, 300 * k + 200, 200] for k in range(i + 4)], dtype=float)
        pred = SlideDetections(boxes[:found], np.linspace(0.9, 0.3, found), np.zeros(found), NAMES)
        slides.append(ScoredSlide(f"s{i}", f"p{i}", 0.5, 5.0, GroundTruth.of(boxes, NAMES * len(boxes), NAMES), pred))
    return SlideMetrics.of(slides, 0.5, draws=20)


def test_every_model_is_in_every_plot():
    models = {"teacher": metrics(3), "student": metrics(2), "blind": metrics(0)}
    for drawing in (draw_froc(models), draw_precision_recall(models)):
        assert [text.get_text() for text in drawing.axes[0].get_legend().get_texts()] == list(models)
    titles = [axis.get_title() for axis in draw_bland_altman(models).axes]
    assert [title.split(",")[0] for title in titles] == list(models)
    # Three slides: true 4, 5, 6; of each, two of the three detections score 0.5 or more.
    points = draw_bland_altman(models).axes[0].collections[0].get_offsets()
    assert sorted(map(tuple, points)) == [(3, -2), (3.5, -3), (4, -4)]


def test_the_plots_are_pictures_and_the_same_each_time(tmp_path):
    one, other = (write_plots(tmp_path / name, {"m": metrics()}) for name in ("one", "other"))
    assert [path.name for path in one] == list(PLOTS)
    for path, again in zip(one, other, strict=True):
        assert cv2.imread(str(path)).std() > 5
        assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(PLOTS)

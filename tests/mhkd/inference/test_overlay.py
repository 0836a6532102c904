from __future__ import annotations

import cv2
import numpy as np

from mhkd.inference.export.features import class_color
from mhkd.inference.overlay import draw_overlay, write_overlay
from mhkd.structures import SlideDetections
from preprocess.slides.slide import Slide
from tests.blobs import write_blob_slide
from tests.records import record

FOUND = SlideDetections(np.array([[400.0, 350, 600, 550]]), np.array([0.9]), np.array([0]), ("glomerulus",))


def test_boxes_are_drawn_where_they_are(tmp_path):
    with Slide.open(write_blob_slide(tmp_path / "blobs.svs")) as slide:
        plain = slide.thumbnail(500)
        image = draw_overlay(slide, FOUND, max_side_px=500)
    assert image.shape == plain.shape == (375, 500, 3)
    changed = np.argwhere((image != plain).any(axis=2))
    assert changed.max(axis=0).tolist() == [138, 150]  # lower right corner, 550 / 4 and 600 / 4
    assert tuple(image[120, 150]) == class_color(0)


def test_the_file_keeps_the_colours(tmp_path):
    with Slide.open(write_blob_slide(tmp_path / "blobs.svs")) as slide:
        for name in ("overlay.png", "overlay.jpg"):
            write_overlay(tmp_path / name, record(FOUND, slide))
        image = draw_overlay(slide, FOUND)
    png, jpg = (cv2.imread(str(tmp_path / name))[..., ::-1] for name in ("overlay.png", "overlay.jpg"))
    assert (png == image).all()
    assert np.abs(jpg.astype(int) - image).mean() < 2


def test_what_could_not_be_read_is_crossed_out(tmp_path):
    nothing = SlideDetections.empty(("glomerulus",))
    with Slide.open(write_blob_slide(tmp_path / "blobs.svs")) as slide:
        plain = slide.thumbnail(500)
        image = draw_overlay(slide, nothing, max_side_px=500, unreadable_l0=np.array([[400.0, 400, 800, 800]]))
    rows, columns = np.nonzero((image != plain).any(axis=2))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (100, 100, 200, 200)
    assert tuple(image[150, 150]) == (128, 128, 128)


def test_scores_stay_inside_the_image(tmp_path):
    corners = np.array([[0.0, 0, 40, 40], [1960, 1460, 2000, 1500]])
    found = SlideDetections(corners, np.array([0.9, 0.8]), np.array([0, 0]), ("glomerulus",))
    with Slide.open(write_blob_slide(tmp_path / "blobs.svs")) as slide:
        image = draw_overlay(slide, found, max_side_px=500)
        plain = slide.thumbnail(500)
    drawn = (image != plain).any(axis=2)
    assert drawn[:10, :30].sum() > 40
    assert drawn[-25:, -30:].sum() > 40

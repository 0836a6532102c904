from __future__ import annotations

import threading

import numpy as np
import pytest

from mhkd.inference.predictor import SlidePredictor
from preprocess.errors import UserError
from preprocess.slide import Slide
from preprocess.synthetic.svs import write_svs
from tests.blobs import DISCS, BlobDetector, boxes_of, write_blob_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with Slide.open(write_blob_slide(tmp_path_factory.mktemp("slides") / "blobs.svs")) as slide:
        yield slide


def assert_finds_all(found, discs=DISCS):
    assert len(found) == len(discs)
    for box in boxes_of(discs):
        assert np.abs(found.boxes_l0 - box).max(axis=1).min() <= 16  # two pixels at 4 um/px


@pytest.mark.parametrize("tile_px", [64, 96, 250, 1024])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_disc_is_found_once_whatever_the_tiles_and_batches(slide, tile_px, batch_size):
    predictor = SlidePredictor(BlobDetector(), tile_px=tile_px, overlap=0.3, batch_size=batch_size)
    assert_finds_all(predictor.predict(slide))


def test_results_do_not_depend_on_the_batch_size(slide):
    one = SlidePredictor(BlobDetector(), batch_size=1).predict(slide)
    many = SlidePredictor(BlobDetector(), batch_size=7).predict(slide)
    np.testing.assert_array_equal(one.boxes_l0, many.boxes_l0)


def test_glass_is_skipped_and_every_tile_is_counted(slide):
    predictor = SlidePredictor(BlobDetector(), tile_px=32, overlap=0.0)
    plan = predictor.plan(slide)
    steps = []
    predictor.predict(slide, plan, advance=steps.append)
    assert sum(steps) == len(plan.tiles) < 8 * 6
    assert plan.tissue_um2 == pytest.approx(1500 * 1100 * 0.25, rel=0.05)


def test_a_slide_without_tissue_has_no_tiles_and_the_model_is_not_asked(tmp_path):
    detector = BlobDetector()
    white = np.full((600, 800, 3), 255, np.uint8)
    with Slide.open(write_svs(tmp_path / "white.svs", white, mpp=0.5)) as slide:
        assert len(SlidePredictor(detector).predict(slide)) == 0
    assert detector.calls == 0


def test_boxes_do_not_leave_the_slide(tmp_path):
    discs = ((5, 750, 100), (1000, 1495, 100))
    with Slide.open(write_blob_slide(tmp_path / "border.svs", discs)) as slide:
        boxes = SlidePredictor(BlobDetector(), min_tissue=0.0).predict(slide).boxes_l0
    assert len(boxes) == 2
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (2000, 1500)).all()


def test_an_error_in_the_model_ends_the_reading_before_it_gets_out(slide):
    detector = BlobDetector()

    def model(inputs):
        raise KeyboardInterrupt

    detector.model = model
    with pytest.raises(KeyboardInterrupt):
        SlidePredictor(detector, batch_size=1).predict(slide)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tile-reader")]


@pytest.mark.parametrize("wrong", [{"tile_px": 8}, {"overlap": 0.95}, {"overlap": -0.1}, {"batch_size": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(UserError, match="give"):
        SlidePredictor(BlobDetector(), **wrong)

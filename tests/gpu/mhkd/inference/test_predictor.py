"""A whole slide on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mhkd.deploy.load import load_model
from mhkd.deploy.parity import compare
from mhkd.deploy.registry import BUNDLED
from mhkd.inference.predictor import SCORE_FLOOR, SlidePredictor
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.slides import make_slide, slide_path
from tests.blobs import write_blob_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with Slide.open(write_blob_slide(tmp_path_factory.mktemp("slides") / "blobs.svs")) as slide:
        yield slide


@pytest.fixture
def memory_limit():
    """``memory_limit(gib)``: this process may take so much of the GPU; all of it again afterwards."""
    total = torch.cuda.get_device_properties(0).total_memory

    def limit(num_bytes):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, num_bytes / total), 0)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0, 0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("exact_float32")
def test_a_slide_searched_on_a_gpu_is_as_on_a_cpu(checkpoint, slide):
    """Batches of another size, several reading threads and another order of sums: 0.1 px at 8 um, 1e-3 of the score."""
    on_cpu = SlidePredictor(load_model(checkpoint, device="cpu", backend="eager", precision="float32"), tile_px=64)
    on_gpu = SlidePredictor(load_model(checkpoint, device="cuda", precision="float32"), tile_px=64)
    assert on_gpu.batch_size > on_cpu.batch_size == 1
    parity = compare([(on_cpu.predict(slide), on_gpu.predict(slide))])
    assert parity.matched
    assert parity.box_px <= 0.1 * 16  # level-0 pixels
    assert parity.score <= 1e-3
    assert parity.unmatched_score <= SCORE_FLOOR + 1e-3


@pytest.mark.usefixtures("needs_bf16")
def test_bfloat16_on_a_gpu_is_float32_on_a_cpu_but_for_its_rounding(tmp_path):
    """Of a trained model: scores within 0.05, boxes within two of its pixels, nothing of 0.3 or more lost."""
    spec = SlideSpec("new", "P1", "test", seed=20_251, size_px=(4096, 3072), glomeruli=(10, 12))
    make_slide(spec, tmp_path)
    exact = load_model(BUNDLED, device="cpu", backend="eager", precision="float32")
    rounded = load_model(BUNDLED, device="cuda", precision="bfloat16")
    with Slide.open(slide_path(spec, tmp_path)) as slide:
        pair = tuple(SlidePredictor(detector).predict(slide) for detector in (exact, rounded))
        pixel_l0 = exact.input_mpp / slide.mpp
    parity = compare([pair])
    assert (pair[0].scores > 0.5).sum() >= 5
    assert parity.unmatched_score < 0.3
    strong = compare([tuple(found.select(np.flatnonzero(found.scores > 0.3)) for found in pair)])
    assert strong.score <= 0.05
    assert strong.box_px <= 2 * pixel_l0


def test_the_default_finds_objects_and_says_what_computed_it(checkpoint, slide):
    predictor = SlidePredictor.from_model(checkpoint, device="cuda", tile_px=64)
    assert len(predictor.predict(slide))
    assert predictor.detector.computed_by.startswith("folded Detectron2, cuda, ")


@pytest.mark.usefixtures("exact_float32")
def test_a_batch_beyond_the_memory_is_halved_until_it_fits(checkpoint, tmp_path, memory_limit, capsys):
    """All tiles of a slide at once, in the memory that four of them take."""
    detector = load_model(checkpoint, device="cuda", precision="float32")
    with Slide.open(write_blob_slide(tmp_path / "large.svs", mpp=2.0)) as slide:
        one_by_one = SlidePredictor(detector, tile_px=128, batch_size=1)
        num_tiles = len(one_by_one.plan(slide).tiles)
        assert num_tiles >= 12
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        expected = one_by_one.predict(slide)
        memory_limit(before + 4 * (torch.cuda.max_memory_reserved() - before))
        greedy = SlidePredictor(detector, tile_px=128, batch_size=num_tiles)
        parity = compare([(expected, greedy.predict(slide))])
    assert 1 <= greedy.batch_size < num_tiles
    assert "going on with" in capsys.readouterr().err
    assert parity.matched
    assert parity.score <= 1e-3


def test_a_memory_without_room_for_a_tile_is_a_clear_error(checkpoint, slide, memory_limit):
    detector = load_model(checkpoint, device="cuda")
    memory_limit(torch.cuda.memory_allocated())
    with pytest.raises(UserError, match=r"batch of 1 tiles.*--tile-px"):
        SlidePredictor(detector, batch_size=1).predict(slide)

"""A whole slide on a GPU."""

from __future__ import annotations

import pytest
import torch

from mhkd.deploy.load import load_model
from mhkd.deploy.parity import compare
from mhkd.inference.predictor import SCORE_FLOOR, SlidePredictor
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide
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
    on_cpu = SlidePredictor(load_model(checkpoint, device="cpu", backend="eager", bf16="off"), tile_px=64)
    on_gpu = SlidePredictor(load_model(checkpoint, device="cuda", bf16="off"), tile_px=64)
    assert on_gpu.batch_size > on_cpu.batch_size == 1
    parity = compare([(on_cpu.predict(slide), on_gpu.predict(slide))])
    assert parity.matched
    assert parity.box_px <= 0.1 * 16  # level-0 pixels
    assert parity.score <= 1e-3
    assert parity.unmatched_score <= SCORE_FLOOR + 1e-3


def test_the_default_finds_objects_and_says_what_computed_it(checkpoint, slide):
    predictor = SlidePredictor.from_model(checkpoint, device="cuda", tile_px=64)
    assert len(predictor.predict(slide))
    assert predictor.detector.computed_by.startswith("folded Detectron2, cuda, ")


@pytest.mark.usefixtures("exact_float32")
def test_a_batch_beyond_the_memory_is_halved_until_it_fits(checkpoint, slide, memory_limit, capsys):
    detector = load_model(checkpoint, device="cuda", bf16="off")
    expected = SlidePredictor(detector, tile_px=64, batch_size=1)
    tiles = expected.plan(slide).tiles
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    found = expected.predict(slide)
    one_tile = torch.cuda.max_memory_reserved() - before
    memory_limit(before + 2.5 * max(one_tile, 32 << 20))
    greedy = SlidePredictor(detector, tile_px=64, batch_size=len(tiles))
    parity = compare([(found, greedy.predict(slide))])
    assert 1 <= greedy.batch_size < len(tiles)
    assert "going on with" in capsys.readouterr().err
    assert parity.matched
    assert parity.score <= 1e-3


def test_a_memory_without_room_for_a_tile_is_a_clear_error(checkpoint, slide, memory_limit):
    detector = load_model(checkpoint, device="cuda")
    memory_limit(torch.cuda.memory_allocated())
    with pytest.raises(UserError, match=r"batch of 1 tiles.*--tile-px"):
        SlidePredictor(detector, batch_size=1).predict(slide)

from __future__ import annotations

import inspect
import shutil
import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mhkd.deploy.batch import send_images
from mhkd.deploy.detector import detect
from mhkd.deploy.export import export_graph
from mhkd.deploy.load import load_model
from mhkd.deploy.parity import compare
from mhkd.inference import predictor
from mhkd.inference.predictor import LANES, READERS, SCORE_FLOOR, SlidePredictor
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_svs
from tests.blobs import DISCS, BlobDetector, boxes_of, write_blob_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with Slide.open(write_blob_slide(tmp_path_factory.mktemp("slides") / "blobs.svs")) as slide:
        yield slide


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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


class Onlooker(BlobDetector):
    """Remembers the sizes (height, width) of the images that it was shown."""

    def __init__(self):
        super().__init__()
        self.sizes_hw = set()

    def model(self, inputs):
        self.sizes_hw |= {tuple(one["image"].shape[-2:]) for one in inputs}
        return super().model(inputs)


def test_a_detector_is_not_shown_more_white_than_it_takes_to_show_the_slide(slide):
    small, large = Onlooker(), Onlooker()
    assert_finds_all(SlidePredictor(small, tile_px=4096).predict(slide))
    ((height, width),) = small.sizes_hw
    assert height == width
    assert 0 <= width - max(slide.size_um) / small.input_mpp < 32
    SlidePredictor(large, tile_px=64).predict(slide)
    assert large.sizes_hw == {(64, 64)}


class SmallMemory(BlobDetector):
    """Its memory holds ``most`` images; torch's errors are those of a GPU or of the CPU."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []

    def model(self, inputs):
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise self.error
        return super().model(inputs)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:98] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_halves_the_batch_once_and_goes_on(slide, error, capsys):
    detector = SmallMemory(2, error)
    found = SlidePredictor(detector, tile_px=64, overlap=0.3, batch_size=8).predict(slide)
    expected = SlidePredictor(BlobDetector(), tile_px=64, overlap=0.3).predict(slide)
    np.testing.assert_array_equal(found.boxes_l0, expected.boxes_l0)
    failed = [size for size in detector.sizes if size > 2]
    assert failed in ([8, 4], [4])  # the last batch of the slide has four tiles, and may come first
    assert detector.sizes[: len(failed)] == failed
    assert "going on with 2" in capsys.readouterr().err


class Crowded(BlobDetector):
    """Counts how many are in its model at once; those who may be wait for each other a moment."""

    def __init__(self, is_thread_safe):
        super().__init__(is_thread_safe=is_thread_safe)
        self.inside, self.most, self.lock = 0, 0, threading.Lock()
        self.met = threading.Event()

    def model(self, inputs):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        if self.inside > 1:
            self.met.set()
        self.met.wait(0.2 if self.is_thread_safe else 0.002)
        found = super().model(inputs)
        with self.lock:
            self.inside -= 1
        return found


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_model_is_used_by_two_threads_where_that_is_allowed_and_never_by_more(slide, two_threads, threads):
    torch.set_num_threads(threads)
    safe, other = Crowded(is_thread_safe=True), Crowded(is_thread_safe=False)
    found = [SlidePredictor(detector, tile_px=64, overlap=0.3).predict(slide) for detector in (safe, other)]
    assert torch.get_num_threads() == threads
    assert (safe.most, other.most) == (min(LANES, threads), 1)
    np.testing.assert_array_equal(found[0].boxes_l0, found[1].boxes_l0)


def test_lanes_find_what_a_detector_finds_tile_by_tile(checkpoint, slide, two_threads):
    detector = load_model(checkpoint, device="cpu", precision="bfloat16")
    predictor = SlidePredictor(detector, tile_px=64)
    tiles = predictor.plan(slide).tiles
    assert len(tiles) > LANES
    found = [boxes for batch in predictor.search(slide, tiles) for boxes in batch]
    torch.set_num_threads(1 if detector.is_thread_safe else 2)  # as each lane has
    for tile, boxes in zip(tiles, found, strict=True):
        (expected,) = detect(detector, [slide.read(tile, Size(64, 64))], [tile], score_thresh=SCORE_FLOOR)
        assert len(expected)
        np.testing.assert_array_equal(boxes.scores, expected.scores)
        np.testing.assert_array_equal(boxes.boxes_l0, expected.boxes_l0)


def test_memory_for_not_even_one_tile_is_a_clear_error_and_other_errors_are_not_hidden(slide):
    with pytest.raises(UserError, match=r"a batch of 1 tiles.*--tile-px"):
        SlidePredictor(SmallMemory(0, torch.OutOfMemoryError("CUDA out of memory")), batch_size=4).predict(slide)
    with pytest.raises(RuntimeError, match="shapes"):
        SlidePredictor(SmallMemory(0, RuntimeError("shapes differ")), batch_size=4).predict(slide)


def test_the_example_of_the_api_runs_as_it_is_printed(checkpoint, slide, tmp_path, monkeypatch, capsys):
    """With a checkpoint, whose detector is a real one, and with what it was exported to: the same detections."""
    text = inspect.getdoc(SlidePredictor.from_model).split("Example::", 1)[1]
    shutil.copy(slide.path, tmp_path / "slide.svs")
    shutil.copy(checkpoint, tmp_path / "detector.pth")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(textwrap.dedent(text), "example", "exec"), scope)
    assert len(capsys.readouterr().out.splitlines()) == len(scope["found"]) > 0

    plain = load_model(checkpoint, device="cpu", backend="eager", precision="float32")
    export_graph(plain, tmp_path / "detector.torchscript")
    again = SlidePredictor.from_model("detector.torchscript", device="cpu").predict(slide)
    assert compare([(SlidePredictor(plain).predict(slide), again)]).within(0.05)


def test_a_real_detector_finds_the_same_in_any_batch(checkpoint, slide):
    """bfloat16 rounds at 2^-8: scores within .05, boxes within a pixel of 8 um; what is near the floor may be lost."""
    detector = load_model(checkpoint, device="cpu", precision="bfloat16")
    one, many = (SlidePredictor(detector, tile_px=128, batch_size=size).predict(slide) for size in (1, 3))
    parity = compare([(one, many)])
    assert parity.matched
    assert parity.score <= 0.05
    assert parity.box_px <= 16
    assert parity.unmatched_score <= SCORE_FLOOR + 0.05
    again = SlidePredictor(detector, tile_px=128, batch_size=1).predict(slide)
    np.testing.assert_array_equal(again.boxes_l0, one.boxes_l0)
    np.testing.assert_array_equal(again.scores, one.scores)


def test_a_batch_on_a_gpu_is_as_large_as_keeps_it_busy_and_on_a_cpu_one_tile():
    assert SlidePredictor(BlobDetector(), tile_px=512).batch_size == 1
    sizes = {side: SlidePredictor(BlobDetector(device="cuda:1"), tile_px=side).batch_size for side in (64, 1024, 4096)}
    assert sizes == {64: 16, 1024: 8, 4096: 1}
    student = BlobDetector(device="cuda")
    student.model = SimpleNamespace(upsample=4)
    assert SlidePredictor(student, tile_px=256).batch_size == 8
    assert SlidePredictor(student, tile_px=256, batch_size=3).batch_size == 3


def test_for_a_gpu_several_threads_read_and_send_while_one_is_in_the_model(slide, two_threads, monkeypatch):
    """The GPU is a CPU that says otherwise: what is sent to it stays on the host."""
    monkeypatch.setattr(predictor, "send_images", lambda images, device: send_images(images, "cpu"))
    torch.set_num_threads(READERS)
    detector = Crowded(is_thread_safe=False)
    detector.device = "cuda"
    searching = SlidePredictor(detector, tile_px=64, overlap=0.3, batch_size=2)
    plan, read, meeting = searching.plan(slide), slide.read, threading.Barrier(READERS)
    turns = iter(range(len(plan.tiles)))

    def wait_for_others(region, size):
        if next(turns) < READERS:  # the first tiles: each is in a batch of its own
            meeting.wait(20)
        return read(region, size)

    monkeypatch.setattr(slide, "read", wait_for_others)
    assert_finds_all(searching.predict(slide, plan))
    assert detector.most == 1


def test_tiles_overlap_by_256_um_or_a_quarter():
    assert SlidePredictor(BlobDetector(), tile_px=256).overlap == pytest.approx(256 / (256 * 4))
    assert SlidePredictor(BlobDetector(), tile_px=512).overlap == pytest.approx(0.125)
    assert SlidePredictor(BlobDetector(), tile_px=64).overlap == 0.25


def test_no_tile_is_smaller_than_32_px_but_those_of_training():
    with pytest.raises(UserError, match="a tile of 31 px is too small"):
        SlidePredictor(BlobDetector(), tile_px=31)
    small = BlobDetector(tile_px=16)
    assert SlidePredictor(small).tile_px == 16
    with pytest.raises(UserError, match="a tile of 15 px is too small"):
        SlidePredictor(small, tile_px=15)


def test_glass_is_skipped_and_every_tile_is_counted(slide):
    predictor = SlidePredictor(BlobDetector(), tile_px=32, overlap=0.0)
    plan = predictor.plan(slide)
    steps = []
    predictor.predict(slide, plan, advance=steps.append)
    assert sum(steps) == len(plan.tiles) < 8 * 6
    assert plan.tissue.area_um2() == pytest.approx(1500 * 1100 * 0.25, rel=0.05)


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
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tile-lane")]


@pytest.mark.parametrize("wrong", [{"tile_px": 8}, {"overlap": 0.95}, {"overlap": -0.1}, {"batch_size": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(UserError, match="give"):
        SlidePredictor(BlobDetector(), **wrong)

from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.registration import open_scan, register
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import ScanFile
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.slides import paint_slide
from preprocess.synthetic.svs import write_svs
from tests.alignment import offset_px
from tests.rescan import rescan

MPP, WH = 0.5, (2560, 2048)
POINTS = np.array([(x, y) for x in (100, 1280, 2460) for y in (100, 1024, 1948)], np.float64)


def paint(seed, kind):
    return paint_slide(SlideSpec("demo", "P1", "train", seed=seed, kind=kind, size_px=WH, glomeruli=(4, 5))).image


@pytest.fixture(scope="module")
def image():
    return paint(3, "wedge")


@pytest.fixture(scope="module")
def slide(image, tmp_path_factory):
    with Slide.open(write_svs(tmp_path_factory.mktemp("slide") / "slide.svs", image, mpp=MPP)) as opened:
        yield opened


def write_scan(path, pixels):
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


@pytest.mark.parametrize(("degrees", "mpp"), [(1, 4.0), (-2, 3.3), (3, 2.7), (-1.5, 8.0), (92, 4.0), (178, 4.0)])
def test_a_scan_is_found_to_less_than_half_of_its_pixels(slide, image, tmp_path, degrees, mpp):
    side = int(1700 / mpp)
    pixels, truth = rescan(image, scale=MPP / mpp, degrees=degrees, size_wh=(side, side), seed=int(mpp))
    with Slide.open(write_scan(tmp_path / "scan.png", pixels), mpp) as scan:
        found = register(slide, scan)
    wrong = found.matrix - truth
    assert np.linalg.norm(POINTS @ wrong[:, :2].T + wrong[:, 2], axis=1).max() < 0.25
    assert found.source == "estimated"
    assert found.correlation > 0.9
    assert found.residual_px < 0.25


def test_needle_cores_are_found_as_well(tmp_path):
    cores = paint(3, "cores")
    pixels, truth = rescan(cores, scale=MPP / 4, degrees=-3, size_wh=(420, 400))
    path = write_svs(tmp_path / "cores.svs", cores, mpp=MPP)
    with Slide.open(path) as slide, Slide.open(write_scan(tmp_path / "scan.png", pixels), 4.0) as scan:
        wrong = register(slide, scan).matrix - truth
    assert np.linalg.norm(POINTS @ wrong[:, :2].T + wrong[:, 2], axis=1).max() < 0.25


def test_a_wrong_mpp_within_ten_percent_is_put_right(slide, image, tmp_path):
    pixels, truth = rescan(image, scale=MPP / 4, degrees=2, size_wh=(420, 400))
    path = write_scan(tmp_path / "scan.png", pixels)
    with Slide.open(path, 4.2) as scan:
        wrong = register(slide, scan).matrix - truth
    assert np.linalg.norm(POINTS @ wrong[:, :2].T + wrong[:, 2], axis=1).max() < 0.25
    with Slide.open(path, 8.0) as scan, pytest.raises(UserError, match=r"scan\.png: .*student_mpp"):
        register(slide, scan)


def test_the_scan_may_show_a_part_only(slide, image, tmp_path):
    pixels, truth = rescan(image, scale=MPP / 4, degrees=2, size_wh=(420, 400))
    with Slide.open(write_scan(tmp_path / "scan.png", pixels[:, 150:]), 4.0) as scan:
        wrong = register(slide, scan).matrix - (truth - np.array([[0, 0, 150], [0, 0, 0]]))
    assert np.linalg.norm(POINTS @ wrong[:, :2].T + wrong[:, 2], axis=1).max() < 0.5


@pytest.mark.parametrize("what", ["another slide", "glass", "noise"])
def test_what_is_not_the_same_glass_is_refused(slide, tmp_path, what):
    if what == "another slide":
        pixels, _ = rescan(paint(8, "wedge"), scale=MPP / 4, degrees=2, size_wh=(420, 400))
    elif what == "glass":
        pixels = np.full((400, 420, 3), 243, np.uint8)
    else:
        pixels = np.random.default_rng(0).integers(0, 255, (400, 420, 3), np.uint8)
    path = write_scan(tmp_path / "scan.png", pixels)
    with pytest.raises(UserError, match=r"scan\.png: .*student_transform"), open_scan(slide, ScanFile(path, 4.0)):
        pass


def test_a_given_place_is_used_and_measured(slide, image, tmp_path):
    pixels, truth = rescan(image, scale=MPP / 4, degrees=-2, size_wh=(420, 400))
    path = write_scan(tmp_path / "scan.png", pixels)
    with open_scan(slide, ScanFile(path, 4.0, tuple(truth.ravel()))) as scan:
        record = scan.to_record()
        region = Region(800, 600, 1024, 1024)
        assert offset_px(slide.read(region, Size(512, 512)), scan.read(region, Size(128, 128))) < 0.3
    assert (record["source"], record["mpp_source"], record["file"]) == ("given", "given", "scan.png")
    assert record["correlation"] > 0.9
    assert record["transform"] == pytest.approx(truth.ravel(), abs=1e-6)
    away = (0.125, 0.0, 9000.0, 0.0, 0.125, 0.0)
    with pytest.raises(UserError, match="no tissue of the slide"), open_scan(slide, ScanFile(path, 4.0, away)):
        pass


@pytest.mark.parametrize(
    "change", [(0, 0, 2, 0, 0, -2), (0, 0, 12, 0, 0, 0), (0, 0, 0, 0, 0, -12), (0.02, 0, 0, 0, 0.02, 0)]
)
def test_a_given_place_that_does_not_fit_is_refused(slide, image, tmp_path, change):
    pixels, truth = rescan(image, scale=MPP / 4, degrees=-2, size_wh=(420, 400))
    path = write_scan(tmp_path / "scan.png", pixels)
    beside = tuple(truth.ravel() + change)
    with (
        pytest.raises(UserError, match=r"scan\.png: the given student_transform does not fit slide\.svs: correlation "),
        open_scan(slide, ScanFile(path, 4.0, beside)),
    ):
        pass


def test_a_slide_that_names_none(slide):
    with open_scan(slide, None) as scan:
        assert scan is None

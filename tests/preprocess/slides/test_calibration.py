from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.geometry import MAX_MPP, MIN_MPP
from preprocess.slides.calibration import calibrate

SLIDE = Path("slide.svs")
VENDOR = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
OME = {"ome.physical-size-x": "0.3", "ome.physical-size-y": "0.3"}
TAGS = {"tiff.XResolution": "20000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"}
IMAGEJ = TAGS | {"tiff.XResolution": "2", "tiff.YResolution": "2", "tiff.ImageDescription": "ImageJ=1.5\nunit=micron\n"}
POWER = {"openslide.objective-power": "20"}


@pytest.mark.parametrize(
    ("properties", "given", "fallback", "mpp", "source"),
    [
        (VENDOR | OME | POWER, None, 1.0, 0.25, "slide property openslide.mpp-x/y"),
        (OME | POWER, None, 1.0, 0.3, "OME-TIFF PhysicalSizeX/Y"),
        (TAGS | POWER, None, None, 0.5, "TIFF resolution tags"),
        (TAGS | POWER, None, 1.0, 1.0, "--mpp (its resolution tags say 0.5)"),
        # OpenSlide makes its value of a generic TIFF's tags.
        (TAGS | VENDOR | {"openslide.vendor": "generic-tiff"}, None, None, 0.5, "TIFF resolution tags"),
        # A microscope of one vendor may have an adapter, and directories that are not the slide.
        (VENDOR | TAGS | {"openslide.vendor": "leica"}, None, None, 0.25, "slide property openslide.mpp-x/y"),
        (IMAGEJ, None, None, 0.5, "TIFF resolution tags"),
        (TAGS | {"tiff.ResolutionUnit": "inch"}, None, None, 1.27, "TIFF resolution tags"),
        (POWER, None, 1.0, 1.0, "--mpp (the file says none)"),
        (POWER, None, None, 0.5, "objective power (estimate)"),
        ({}, 0.4, 1.0, 0.4, "given"),
        (VENDOR, 0.251, None, 0.251, "given"),
        (VENDOR, 0.5, None, 0.5, "given (the file says 0.25)"),
        (POWER, 0.25, None, 0.25, "given"),
        # 72 dpi, the default of many writers, is 353 um/px.
        (TAGS | {"tiff.XResolution": "72", "tiff.ResolutionUnit": "inch"} | POWER, None, None, 0.5, "objective power"),
        (VENDOR | {"openslide.mpp-x": "0", "openslide.mpp-y": "0"} | TAGS, None, None, 0.5, "TIFF resolution tags"),
        (VENDOR | {"openslide.mpp-y": "0.2501"}, None, None, 0.25005, "slide property openslide.mpp-x/y"),
    ],
)
def test_the_first_that_knows_is_taken(properties, given, fallback, mpp, source):
    found = calibrate(SLIDE, properties, given, fallback)
    assert (found.mpp_x, found.mpp_y) == pytest.approx((mpp, mpp))
    assert found.source.startswith(source)


def test_pixels_that_are_not_square_keep_both_sides():
    found = calibrate(SLIDE, {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.49"})
    assert (found.mpp_x, found.mpp_y) == (0.25, 0.49)
    assert found.mpp == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("properties", "given", "fallback", "message"),
    [
        ({}, None, None, r"slide\.svs: the slide does not say its mpp \(state it .*--mpp"),
        ({"openslide.mpp-x": "250", "openslide.mpp-y": "250"}, None, None, "passed over: .*: 250"),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "inf"} | {"openslide.objective-power": "-4"}, None, None, "not"),
        ({"openslide.mpp-x": "much", "openslide.mpp-y": "0.25"}, None, None, "does not say"),
        (VENDOR, 250.0, None, r"given mpp 250 is outside 0\.05 to 64"),
        (VENDOR, None, float("nan"), "given mpp nan is outside"),
        (
            {"openslide.mpp-x": "0.1", "openslide.mpp-y": "10"},
            None,
            None,
            r"pixels of 0\.1 by 10 um .* no microscope's",
        ),
    ],
)
def test_nothing_is_guessed(properties, given, fallback, message):
    with pytest.raises(UserError, match=message):
        calibrate(SLIDE, properties, given, fallback)


@pytest.mark.parametrize("dpi", [400, 600, 720, 1200, 2400, 4800, 300 * 2.54, 236 * 2.54, 960])
def test_the_resolution_of_a_print_is_no_size_of_a_pixel(dpi):
    tags = {"tiff.XResolution": str(dpi), "tiff.YResolution": str(dpi), "tiff.ResolutionUnit": "inch"}
    with pytest.raises(UserError, match="dpi, as for print"):
        calibrate(SLIDE, tags)
    assert calibrate(SLIDE, tags, fallback=0.25).mpp == 0.25
    estimated = calibrate(SLIDE, tags | POWER)
    assert (estimated.mpp, "as for print" in estimated.remark) == (0.5, True)


@pytest.mark.parametrize("um", [1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 40.0, 3.119])
def test_the_tags_of_a_coarse_scan_are_taken(um):
    tags = {"tiff.XResolution": str(1e4 / um), "tiff.YResolution": str(1e4 / um), "tiff.ResolutionUnit": "centimeter"}
    assert calibrate(SLIDE, tags).mpp == pytest.approx(um)


@pytest.mark.parametrize("properties", [VENDOR | TAGS | {"openslide.vendor": "aperio"}, OME | TAGS])
def test_two_sizes_in_one_file_are_refused_unless_one_is_given(properties):
    own = {name: "0.25" if "mpp" in name or "physical" in name else value for name, value in properties.items()}
    with pytest.raises(UserError, match=r"two sizes of a pixel: .* 0\.25 um/px, TIFF resolution tags 0\.5 um/px"):
        calibrate(SLIDE, own)
    assert calibrate(SLIDE, own, 0.5).remark.startswith("0.5 um/px is taken, but others say: ")


@pytest.mark.parametrize(
    ("given", "fallback", "remark"),
    [
        (None, None, "objective power 2"),
        (None, 0.5, "--mpp 0.5, objective power 2"),
        (0.5, None, "openslide.mpp-x/y 0.25"),
    ],
)
def test_who_says_something_else_is_remarked_on(given, fallback, remark):
    assert remark in calibrate(SLIDE, VENDOR | {"openslide.objective-power": "5"}, given, fallback).remark
    assert not calibrate(SLIDE, VENDOR | {"openslide.objective-power": "40"}).remark


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*VENDOR, *OME, *TAGS, *POWER]), st.text(max_size=6) | st.floats().map(str)))
def test_whatever_a_file_says_the_result_is_plausible_or_refused(properties):
    try:
        found = calibrate(SLIDE, properties)
    except UserError:
        return
    assert MIN_MPP <= found.mpp_x <= MAX_MPP
    assert MIN_MPP <= found.mpp_y <= MAX_MPP


def test_a_size_of_one_and_values_that_are_none_are_said():
    assert "fill in" in calibrate(SLIDE, {name: "1.0" for name in OME}).remark
    for sizes in (("-0.5", "-0.5"), ("0.5", "nan")):
        with pytest.raises(UserError, match=rf"passed over: OME-TIFF PhysicalSizeX/Y: {sizes[0]}"):
            calibrate(SLIDE, dict(zip(OME, sizes, strict=True)))

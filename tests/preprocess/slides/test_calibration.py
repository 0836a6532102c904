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
POWER = {"openslide.objective-power": "20"}


@pytest.mark.parametrize(
    ("properties", "given", "fallback", "mpp", "source"),
    [
        (VENDOR | OME | TAGS | POWER, None, 1.0, 0.25, "slide property openslide.mpp-x/y"),
        (OME | TAGS | POWER, None, 1.0, 0.3, "OME-TIFF PhysicalSizeX/Y"),
        (TAGS | POWER, None, 1.0, 0.5, "TIFF resolution tags"),
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
        ({"openslide.mpp-x": "250", "openslide.mpp-y": "250"}, None, None, "implausible: .*: 250"),
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


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*VENDOR, *OME, *TAGS, *POWER]), st.text(max_size=6) | st.floats().map(str)))
def test_whatever_a_file_says_the_result_is_plausible_or_refused(properties):
    try:
        found = calibrate(SLIDE, properties)
    except UserError:
        return
    assert MIN_MPP <= found.mpp_x <= MAX_MPP
    assert MIN_MPP <= found.mpp_y <= MAX_MPP

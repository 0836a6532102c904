from __future__ import annotations

import numpy as np
import openslide
import pytest
import shapely

from preprocess.annotations.annotation import Annotation
from preprocess.annotations.origin import check_origin, to_slide_frame
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region
from preprocess.slides.slide import Slide
from tests.scn import write_scn

OFFSET = (1600, 800)
OUTLINE = [Annotation(shapely.box(10, 20, 60, 90), "Glomerulus")]


@pytest.fixture(scope="module")
def scn(tmp_path_factory):
    image = np.full((800, 1200, 3), 200, np.uint8)
    path = write_scn(tmp_path_factory.mktemp("scn") / "a.scn", image, size_wh=(4000, 3200), offset_xy=OFFSET)
    with openslide.OpenSlide(path) as slide:  # it is OpenSlide that says where the scanned part lies
        assert slide.properties["openslide.vendor"] == "leica"
        assert slide.properties["openslide.bounds-x"] == "1600"
    with Slide.open(path) as opened:
        yield opened


def bounds_of(annotations):
    return annotations[0].polygon.bounds


def test_qupath_counts_from_what_was_scanned_and_others_from_the_slide(scn):
    assert scn.region == Region(1600, 800, 1200, 800)
    assert bounds_of(to_slide_frame(OUTLINE, scn, "bounds")) == (1610, 820, 1660, 890)
    assert bounds_of(to_slide_frame(OUTLINE, scn, "slide")) == (10, 20, 60, 90)


def test_not_stated_is_refused_where_it_matters_only(scn, svs_slide):
    with pytest.raises(UserError, match=r"starts at \(1600, 800\).*bounds \(QuPath\) or slide"):
        to_slide_frame(OUTLINE, scn, None)
    assert to_slide_frame([], scn, None) == []
    with Slide.open(svs_slide) as slide:
        for origin in (None, "slide", "bounds"):
            assert to_slide_frame(OUTLINE, slide, origin) == OUTLINE


def test_only_the_two_origins_are_known():
    assert [check_origin(one) for one in (None, "Slide", "BOUNDS")] == [None, "slide", "bounds"]
    with pytest.raises(UserError, match="unknown origin 'qupath'"):
        check_origin("qupath")

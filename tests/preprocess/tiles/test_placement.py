from __future__ import annotations

import numpy as np
import pytest
import shapely

from preprocess.annotations import Annotation
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region
from preprocess.tiles.placement import Placement
from preprocess.tissue.mask import TissueMask

W, H, MPP = 8000, 4000, 0.5
PLACES = [(1500 + 620 * i, 700 + 137 * (i % 4)) for i in range(9)]


@pytest.fixture
def tissue():
    """A core along the upper half of a slide of 4 x 2 mm."""
    mask = np.zeros((40, 80), bool)
    mask[4:14, 12:70] = True
    return TissueMask(mask, Region(0, 0, W, H), MPP)


def discs(places, radius=180.0, ignore=False):
    return [Annotation(shapely.Point(place).buffer(radius), "Glomerulus", ignore) for place in places]


def placed(change, radius=180.0):
    return discs([change(x, y) for x, y in PLACES], radius)


def test_outlines_on_tissue_are_taken(tissue):
    placement = Placement.of(discs(PLACES), tissue)
    placement.check(0.0)
    assert (placement.num_outlines, placement.num_off_slide, placement.num_on_glass) == (9, 0, 0)
    assert placement.median_um == pytest.approx(180, abs=1)


@pytest.mark.parametrize(
    ("annotations", "share"),
    [
        (placed(lambda x, y: (2 * x, 2 * y), 360.0), "44 % of its 9 outlines lie off the slide, 56 % on glass"),
        (
            placed(lambda x, y: (x / 2, y / 2), 90.0),
            "on glass; their median diameter is 90 um, a glomerulus has about 100",
        ),
        (placed(lambda x, y: (x / 4, y / 4), 45.0), "on glass; their median diameter is 45 um"),
        (placed(lambda x, y: (y, x)), "% on glass"),
        (placed(lambda x, y: (H - y, x)), "% on glass"),
        (placed(lambda x, y: (x, H - y)), "100 % on glass"),
        (placed(lambda x, y: (x, -y)), "100 % of its 9 outlines lie off the slide"),
        (discs([(200, 3000)]), "100 % on glass"),
    ],
    ids=["40x", "halved", "um", "swapped", "turned", "y flipped", "y negative", "one"],
)
def test_outlines_of_another_frame_are_refused(tissue, annotations, share):
    with pytest.raises(UserError, match=share):
        Placement.of(annotations, tissue).check()


def test_a_few_stray_outlines_are_counted_and_taken(tissue):
    strays = discs([(9000, 500), (300, 3000)])
    placement = Placement.of(discs(PLACES) + strays, tissue)
    placement.check()
    assert (placement.num_off_slide, placement.num_on_glass) == (1, 1)
    with pytest.raises(UserError, match="9 % of its 11 outlines lie off the slide, 9 % on glass"):
        placement.check(0.1)


def test_fewer_strays_are_allowed_where_the_size_is_odd_too(tissue):
    odd = discs(PLACES, 60.0) + discs([(300, 3000), (300, 3500)], 60.0)
    with pytest.raises(UserError, match="18 % on glass; their median diameter is 60 um"):
        Placement.of(odd, tissue).check()


def test_who_says_that_it_is_right_is_believed_unless_all_lie_off_the_slide(tissue):
    Placement.of(discs([(200, 3000)], 20.0), tissue).check(1.0)
    with pytest.raises(UserError, match="100 % of its 1 outlines lie off"):
        Placement.of(discs([(9000, 0)]), tissue).check(1.0)


def test_regions_to_ignore_may_lie_on_glass(tissue):
    placement = Placement.of(discs(PLACES) + discs([(300, 3000)] * 9, ignore=True), tissue)
    placement.check(0.0)
    assert placement.median_um == pytest.approx(180, abs=1)


def test_background_or_tissue_as_an_object_is_refused(tissue):
    background = shapely.box(0, 0, W, H).difference(shapely.Point(2000, 900).buffer(180))
    with pytest.raises(UserError, match=r"class '255' covers most of the slide.*drop or ignore"):
        Placement.of([Annotation(background, "255")], tissue).check(1.0)
    Placement.of([*discs(PLACES), Annotation(background, "*", ignore=True)], tissue).check()


def test_a_glomerulus_may_fill_its_picture():
    tissue = TissueMask(np.ones((20, 20), bool), Region(0, 0, 1000, 1000), MPP)
    Placement.of(discs([(500, 500)], 470.0), tissue).check(0.0)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(tissue, share):
    with pytest.raises(UserError, match="is no share"):
        Placement.of([], tissue).check(share)


@pytest.mark.parametrize("scale", [1 / W, 1e-3, 1 / 64])
def test_outlines_that_cover_nothing_are_refused_even_on_tissue(scale):
    everywhere = TissueMask(np.ones((40, 80), bool), Region(0, 0, W, H), MPP)
    specks = placed(lambda x, y: (x * scale, y * scale), 180 * scale)
    with pytest.raises(UserError, match="100 % are below 20 um"):
        Placement.of(specks, everywhere).check()
    Placement.of(specks, everywhere).check(1.0)
    Placement.of(discs(PLACES) + specks[:1], everywhere).check()


@pytest.mark.parametrize("scale", [0.25, 0.125])
def test_outlines_in_um_are_refused_even_on_tissue(scale):
    everywhere = TissueMask(np.ones((40, 80), bool), Region(0, 0, W, H), MPP)
    with pytest.raises(UserError, match="all lie in its upper left quarter"):
        Placement.of(placed(lambda x, y: (x * scale, y * scale), 180 * scale), everywhere).check()
    Placement.of(discs(PLACES, 180 * scale), everywhere).check()
    Placement.of(placed(lambda x, y: (x / 4, y / 4)), everywhere).check()

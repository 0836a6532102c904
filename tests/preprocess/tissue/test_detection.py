from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.tissue.detection import find_tissue

MPP, HEIGHT, WIDTH = 16.0, 420, 600
GLASS = (243, 241, 243)
STAINS = {
    "haematoxylin and eosin": (196, 128, 176),
    "PAS": (178, 108, 168),
    "faded": (232, 214, 226),
    "white on white": (235, 229, 234),
    "unstained": (230, 229, 229),
    "immunohistochemistry brown": (150, 98, 62),
    "counterstain alone": (206, 208, 222),
    "silver": (112, 108, 118),
    "Masson blue": (70, 90, 170),
    "Masson red": (176, 40, 58),
}
CORE = np.zeros((HEIGHT, WIDTH), np.uint8)
cv2.ellipse(CORE, (300, 210), (170, 90), 0, 0, 360, 1, -1)


def slide(stain="haematoxylin and eosin", glass=GLASS, tissue=CORE):
    """A thumbnail of 16 um/px: glass with noise, and on it tissue whose absorption varies by a quarter, as cells do."""
    rng = np.random.default_rng(0)
    absorbed = np.log(np.array(GLASS) / STAINS[stain])
    cells = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)), (0, 0), 0.9)
    amount = tissue * np.clip(1 + 0.25 * cells / cells.std(), 0.2, 2)
    return noisy(np.array(glass) * np.exp(-absorbed * amount[..., None]), rng)


def noisy(image, rng=None):
    noise = (rng or np.random.default_rng(1)).normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def agreement(found, tissue=CORE):
    """Intersection over union of the found and the true tissue."""
    return (found & (tissue > 0)).sum() / (found | (tissue > 0)).sum()


@pytest.mark.parametrize("stain", STAINS)
def test_every_stain_is_found(stain):
    assert agreement(find_tissue(slide(stain), MPP)) > 0.95


@pytest.mark.parametrize("glass", [(255, 255, 255), (222, 219, 222), (200, 196, 205)])
@pytest.mark.parametrize("stain", ["PAS", "faded"])
def test_whatever_the_colour_of_the_glass(stain, glass):
    assert agreement(find_tissue(slide(stain, glass), MPP)) > 0.95


def pen(colour, opacity=1.0):
    def draw(image):
        ink = np.zeros((HEIGHT, WIDTH), np.float32)
        cv2.polylines(ink, [np.array([(40, 60), (250, 40), (560, 60), (570, 380)])], False, 1, 40, cv2.LINE_AA)
        ink = ink[..., None] * opacity
        return noisy(image * (1 - ink) + np.array(colour) * ink)

    return draw


def black_corners(image):
    image = image.copy()
    image[:90, :200] = image[340:, 380:] = image[:, :25] = 0
    return image


def white_frame(image):
    framed = np.full_like(image, 255)
    framed[40:-40, 60:-60] = image[40:-40, 60:-60]
    return framed


def dark_borders(image):
    x = np.arange(WIDTH)
    shade = 1 - 0.85 * np.exp(-x / 25.0) - 0.6 * np.exp(-(WIDTH - x) / 30.0)
    return (image * shade[None, :, None]).astype(np.uint8)


def dust(image):
    rng, image = np.random.default_rng(3), image.copy()
    for _ in range(120):
        centre = int(rng.integers(10, WIDTH - 10)), int(rng.choice([rng.integers(10, 100), rng.integers(320, 410)]))
        cv2.circle(image, centre, int(rng.integers(1, 5)), (95, 90, 85), -1, cv2.LINE_AA)
    cv2.polylines(image, [np.array([(20, 390), (200, 350), (420, 395)])], False, (80, 75, 70), 2, cv2.LINE_AA)  # hair
    return image


def uneven_light(image):
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    return (image * (1 - 0.035 * (x + y * y))[..., None]).clip(0, 255).astype(np.uint8)


NUISANCES = {
    "green pen": pen((20, 130, 60)),
    "blue pen": pen((30, 50, 170)),
    "red pen": pen((215, 20, 35)),
    "black pen": pen((28, 26, 32)),
    "dried black pen": pen((28, 26, 32), 0.75),
    "black corners": black_corners,
    "white frame": white_frame,
    "dark borders": dark_borders,
    "dust": dust,
    "uneven light": uneven_light,
}


@pytest.mark.parametrize("stain", ["faded", "silver"])
@pytest.mark.parametrize("nuisance", NUISANCES)
def test_what_is_not_tissue_is_not_found_and_does_not_hide_tissue(nuisance, stain):
    assert agreement(find_tissue(NUISANCES[nuisance](slide(stain)), MPP)) > 0.93


@pytest.mark.parametrize("nuisance", [None, *NUISANCES])
def test_glass_alone_has_no_tissue(nuisance):
    image = slide(tissue=np.zeros_like(CORE))
    assert find_tissue(NUISANCES[nuisance](image) if nuisance else image, MPP).mean() < 0.01


# Without glass beside it, tissue of the glass's colour could as well be glass.
@pytest.mark.parametrize("stain", [stain for stain in STAINS if stain not in ("white on white", "unstained")])
def test_a_crop_that_is_all_tissue(stain):
    assert find_tissue(slide(stain, tissue=np.ones_like(CORE)), MPP).mean() > 0.97


def test_tissue_under_a_pen_stroke_stays_where_its_texture_shows():
    image = slide()
    stroke = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(stroke, (300, 20), (300, 400), 1, 40)
    found = find_tissue(
        np.where(stroke[..., None] > 0, image * np.array((0.3, 0.75, 0.5)), image).astype(np.uint8), MPP
    )
    assert found[(stroke > 0) & (CORE > 0)].mean() > 0.8
    assert found[(stroke > 0) & (CORE == 0)].mean() < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (3, 2, 3)])
def test_tiny_thumbnails(shape):
    assert find_tissue(np.full(shape, 240, np.uint8), MPP).shape == shape[:2]

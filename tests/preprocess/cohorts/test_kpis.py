from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.cohorts.kpis import build_patches, build_slides
from tests.preprocess.cohorts.conftest import boxes, boxes_of, kidney, mask, splits_of, write_tiff
from tools import make_table

SLIDES = {
    "train/Task2_WSI_level/56Nx/12-116": 0,
    "train/Task2_WSI_level/NEP25/08_368_01": 10,
    "train/Task2_WSI_level/NEP25/08_368_02": 20,
    "train/Task2_WSI_level/normal/normal_F1": 30,
    "validation/Task2_WSI_level/DN/11-359": 40,
    "test/Task2_WSI_level/56NX/12-299": 50,
}


@pytest.fixture
def slides(tmp_path):
    """The challenge's whole slides, small: masks of 0 and 1 or of 0 and 255, as they are found."""
    folder = tmp_path / "kpis"
    for name, shift in SLIDES.items():
        write_tiff(folder / f"{name}_wsi.tiff", kidney(shift), "tiles")
        write_tiff(folder / f"{name}_mask.tiff", mask(shift, 255 if shift else 1), "strips")
    return folder


@pytest.fixture
def patches(tmp_path):
    """The challenge's patches, small, of four mice."""
    folder = tmp_path / "KPIs24_data"
    for place, stem, shift in (
        ("KPIs24 Training Data/Task1_patch_level/train/56Nx/12_116", "56Nx_12_116_4_4096_0", 0),
        ("KPIs24 Training Data/Task1_patch_level/train/56Nx/12_116", "56Nx_12_116_5_5120_0", 10),
        ("KPIs24 Training Data/Task1_patch_level/train/NEP25/08_373_01", "08_373_01_242_4096_14336", 20),
        ("KPIs24_Validation_Data/Task1_patch_level/validation/normal/normal_M1", "normal_M1_7_0_1024", 30),
        ("KPIs24 Testing Data/Task1_patch_level/test/DN/11-362", "11-362_3_0_1024", 40),
    ):
        for kind, image in (("img", kidney(shift)), ("mask", mask(shift, 255))):
            path = folder / place / kind / f"{stem}_{kind}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image if kind == "mask" else image[..., ::-1])
    return folder


def test_from_whole_slides_to_tile_pairs(slides, tmp_path, cut):
    path = tmp_path / "slides.csv"
    assert make_table.main(["kpis", str(slides), "--mpp", "0.25", "--output", str(path)]) == 0
    # The discs of the test are small for a glomerulus.
    table, manifest = cut(path, "--merge-labels", "Glomerulus", "--max-misplaced", "1")
    for name, shift in SLIDES.items():
        np.testing.assert_allclose(boxes_of(manifest, name.rpartition("/")[2] + "_wsi"), boxes(shift))
    assert splits_of(manifest.tiles) == {
        "12-116": {"train"},
        "08-368": {"train"},
        "normal_F1": {"train"},
        "11-359": {"val"},
        "12-299": {"test"},
    }
    mpp = dict(zip(table["group"], table["mpp"], strict=True))
    assert (mpp["NEP25"], mpp["56Nx"], mpp["normal"]) == (0.5, 0.25, 0.25)


def test_from_patches_to_tile_pairs(patches, tmp_path, cut):
    path = tmp_path / "tables" / "slides.csv"
    assert make_table.main(["kpis-patches", str(patches), "--mpp", "0.5", "--output", str(path)]) == 0
    _, manifest = cut(path, "--merge-labels", "Glomerulus")
    assert len(manifest.tiles) == 5
    # JPEG moves an edge by a pixel at most.
    np.testing.assert_allclose(boxes_of(manifest, "56Nx_12_116_5_5120_0_img"), boxes(10), atol=1)
    assert splits_of(manifest.tiles) == {
        "12-116": {"train"},
        "08-373": {"train"},
        "normal_M1": {"val"},
        "11-362": {"test"},
    }
    written = cv2.imread(str(tmp_path / "tables" / "annotations" / "11-362_3_0_1024.png"), cv2.IMREAD_UNCHANGED)
    assert np.unique(written).tolist() == [0, 1]


def test_mice_can_be_dealt_anew(slides, tmp_path):
    table = build_slides(slides, tmp_path, mpp=0.25, fractions=(0.4, 0.2, 0.4)).table
    assert all(len(splits) == 1 for splits in splits_of(table).values())
    assert table.groupby("split")["patient"].nunique().to_dict() == {"train": 2, "val": 1, "test": 2}


def test_a_test_split_without_masks_is_listed_and_left_out(slides, tmp_path):
    (slides / "test/Task2_WSI_level/56NX/12-299_mask.tiff").unlink()
    found = build_slides(slides, tmp_path, mpp=0.25)
    assert len(found.table) == 5
    assert "1 slides without a mask are left out: 12-299_wsi" in found.notes
    assert "there is no split test here" in found.notes


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRAIN = "train/Task2_WSI_level"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / TRAIN / "56Nx/12-116_mask.tiff").unlink(), r"12-116_wsi.tiff: its mask is missing"),
        (
            lambda f: (f / TRAIN / "56Nx/12-116_wsi.tiff").unlink(),
            r"12-116_mask.tiff: the image of this mask is missing",
        ),
        (lambda f: cut_off(f / TRAIN / "56Nx/12-116_wsi.tiff"), r"12-116_wsi.tiff: "),
        (
            lambda f: cut_off(f / TRAIN / "56Nx/12-116_mask.tiff"),
            r"12-116_mask.tiff: (the file ends early|not a readable)",
        ),
        (
            lambda f: (f / TRAIN / "56Nx/12-116_mask.tiff").write_text("<html>"),
            r"12-116_mask.tiff: not a readable TIFF",
        ),
        (
            lambda f: write_tiff(f / TRAIN / "56Nx/12-116_mask.tiff", np.zeros((300, 333), np.uint8)),
            "12-116_mask.tiff: made on",
        ),
        (lambda f: (f / TRAIN).rename(f / "Task2"), "12-116_wsi.tiff: lies in no folder that names its split"),
        (lambda f: (f / TRAIN / "56Nx").rename(f / TRAIN / "latest"), "lies in no folder that names its group"),
        (lambda f: write_tiff(f / TRAIN / "DN/12-116_wsi.tiff", kidney()), "12-116_wsi.tiff: the same image as"),
        (lambda f: [p.unlink() for p in f.rglob("*_wsi.tiff")], "nothing like GROUP/MOUSE_wsi.tiff"),
    ],
)
def test_what_is_missing_or_wrong_is_named(slides, tmp_path, spoil, message):
    spoil(slides)
    with pytest.raises(UserError, match=message):
        build_slides(slides, tmp_path / "extras", mpp=0.25)


def test_a_mask_of_another_size_than_its_patch_is_refused(patches, tmp_path):
    path = next(patches.rglob("11-362*_mask.jpg"))
    cv2.imwrite(str(path), np.zeros((100, 100), np.uint8))
    with pytest.raises(UserError, match=r"11-362_3_0_1024_mask.jpg: 100 x 100 px, but its image has 640 x 520"):
        build_patches(patches, tmp_path / "extras", mpp=0.5)


def test_the_pixel_size_must_be_stated(slides, tmp_path):
    with pytest.raises(UserError, match=r"_wsi.tiff: the slide does not say its mpp.*--mpp"):
        build_slides(slides, tmp_path / "extras")


def test_a_mouse_in_two_splits_is_refused(slides, tmp_path):
    place = slides / "test/Task2_WSI_level/NEP25"
    write_tiff(place / "08_368_03_wsi.tiff", kidney())
    write_tiff(place / "08_368_03_mask.tiff", mask(), "strips")
    with pytest.raises(UserError, match="patient '08-368' is in two splits"):
        make_table.main(["kpis", str(slides), "--mpp", "0.25", "--output", str(tmp_path / "slides.csv")])
    assert not (tmp_path / "slides.csv").exists()

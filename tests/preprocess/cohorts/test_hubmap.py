from __future__ import annotations

import json

import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.cohorts.hubmap import DONORS, build
from tests.preprocess.cohorts.conftest import (
    GLOMERULI,
    SIZE_WH,
    boxes,
    boxes_of,
    kidney,
    mask,
    splits_of,
    write_tiff,
)
from tools import make_table

TRAIN = ("aaa6a05cc", "54f2eec69", "cb2d976f4", "c68fe75ea", "095bf7a1f", "1e2425f28")
TEST = ("2ec3f1bb9", "d488c759a")
NUMBERS = {"VAN0003": 65631, "VAN0006": 67347, "VAN0010": 67112, "VAN0012": 68138, "VAN0008": 63921, "VAN0007": 66144}
HEADER = (
    "image_file,width_pixels,height_pixels,anatomical_structures_segmention_file,glomerulus_segmentation_file,"
    "patient_number,race,ethnicity,sex,age,weight_kilograms,height_centimeters,bmi_kg/m^2,laterality,percent_cortex,"
    "percent_medulla"
)


def run_lengths(image):
    """Kaggle's encoding: pairs of start and length, down the columns, from 1."""
    column = np.concatenate(([0], image.T.ravel(), [0])).astype(int)
    edges = np.flatnonzero(np.diff(column)) + 1
    return " ".join(str(number) for pair in zip(edges[0::2], edges[1::2] - edges[0::2], strict=True) for number in pair)


def feature(x, y, radius, name="glomerulus"):
    ring = [[x - radius, y], [x, y - radius], [x + radius, y], [x, y + radius], [x - radius, y]]
    properties = {"classification": {"name": name, "colorRGB": -3140401}, "isLocked": True}
    return {
        "type": "Feature",
        "id": "PathAnnotationObject",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


@pytest.fixture
def folder(tmp_path):
    """The download of 2021, small: six annotated training slides of five donors, two test slides without outlines."""
    folder = tmp_path / "hubmap-kidney-segmentation"
    kinds = ("tiles", "planes", "strips")
    for i, name in enumerate(TRAIN):
        write_tiff(folder / "train" / f"{name}.tiff", kidney(10 * i), kinds[i % 3])
        structures = folder / "train" / f"{name}-anatomical-structure.json"
        structures.write_text(json.dumps([feature(300, 300, 200, "Cortex")]))
        if name != "aaa6a05cc":  # one is known from the table alone
            outlines = [feature(x + 10 * i, y, r) for x, y, r in GLOMERULI.values()]
            (folder / "train" / f"{name}.json").write_text(json.dumps(outlines))
    for name in TEST:
        write_tiff(folder / "test" / f"{name}.tiff", kidney(100))
        (folder / "test" / f"{name}-anatomical-structure.json").write_text(json.dumps([feature(300, 300, 200)]))
    rows = [f"{name},{run_lengths(mask(10 * i))}" for i, name in enumerate(TRAIN)]
    (folder / "train.csv").write_text("\n".join(["id,encoding", *rows]) + "\n")
    (folder / "sample_submission.csv").write_text("\n".join(["id,predicted", *(f"{name}," for name in TEST)]) + "\n")
    told = [
        f"{name}.tiff,{SIZE_WH[0]},{SIZE_WH[1]},{name}-anatomical-structure.json,{name}.json,{NUMBERS[DONORS[name]]},"
        "White,Not Hispanic or Latino,Male,58,59,160,23,Right,80,20"
        for name in (*TRAIN, *TEST)
    ]
    (folder / "HuBMAP-20-dataset_information.csv").write_text("\n".join([HEADER, *told]) + "\n")
    return folder


def test_from_the_download_to_tile_pairs(folder, tmp_path, cut, capsys):
    path = tmp_path / "tables" / "slides.csv"
    assert make_table.main(["hubmap", str(folder), "--output", str(path)]) == 0
    said = capsys.readouterr()
    assert "note: 2 slides without outlines are left out: 2ec3f1bb9, d488c759a" in said.err
    assert "note: the download's test/2ec3f1bb9 shares its donor with train/c68fe75ea" in said.err
    assert "d488c759a shares" not in said.err
    assert "train: " in said.out
    assert str(path) in said.out
    table, manifest = cut(path, "--merge-labels", "Glomerulus")
    assert sorted(table["slide"].map(lambda name: name.split("/")[-1])) == sorted(f"{name}.tiff" for name in TRAIN)
    assert manifest.labels == ["Glomerulus"]
    for i, name in enumerate(TRAIN):
        exact = name == "aaa6a05cc"  # run lengths go along the edges of pixels, outlines through their corners
        expected = boxes(10 * i) - (0 if exact else np.array([0, 0, 1, 1]))
        np.testing.assert_allclose(boxes_of(manifest, name), expected)
    assert set(table["patient"]) == {str(NUMBERS[DONORS[name]]) for name in TRAIN}
    assert all(len(splits) == 1 for splits in splits_of(manifest.tiles).values())
    assert set(manifest.tiles["split"]) == {"train", "val", "test"}
    assert set(table["mpp"]) == {0.5}
    assert set(table["mpp_source"]) == {"nominal"}
    assert not {"sex", "age", "race"} & set(table.columns)


def test_the_slides_of_one_donor_stay_together(folder, tmp_path):
    table = build(folder, tmp_path / "extras").table
    of_donor = table.assign(donor=[DONORS[path.stem] for path in table["slide"]])
    assert all(len(splits) == 1 for splits in splits_of(of_donor, "donor").values())


def test_without_the_information_file_the_donors_are_known_from_hubmap(folder, tmp_path):
    (folder / "HuBMAP-20-dataset_information.csv").unlink()
    table = build(folder, tmp_path / "extras").table
    assert set(table["patient"]) == {DONORS[name] for name in TRAIN}


def test_a_slide_that_the_file_leaves_out_goes_to_its_donors_other_slide(folder, tmp_path):
    path = folder / "HuBMAP-20-dataset_information.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("54f2eec69")))
    table = build(folder, tmp_path).table
    patients = dict(zip(table["slide"].map(lambda path: path.stem), table["patient"], strict=True))
    assert patients["54f2eec69"] == patients["cb2d976f4"] == "67347"


def test_no_two_of_the_thirty_slides_have_one_name():
    assert (len(DONORS), len(set(DONORS.values()))) == (30, 16)


def test_a_given_mpp_goes_before_the_nominal_one_and_the_files_own_before_both(folder, tmp_path):
    write_tiff(folder / "train" / "aaa6a05cc.tiff", kidney(), resolution=(40000, 40000), resolutionunit="CENTIMETER")
    table = build(folder, tmp_path / "extras", mpp=0.4).table
    table = table.set_index(table["slide"].map(lambda path: path.stem))
    assert np.isnan(table.loc["aaa6a05cc", "mpp"])
    assert table.loc["aaa6a05cc", "mpp_source"] == "TIFF resolution tags"
    assert (table.loc["cb2d976f4", "mpp"], table.loc["cb2d976f4", "mpp_source"]) == (0.4, "given")


def spoil(folder, what):
    train, information = folder / "train", folder / "HuBMAP-20-dataset_information.csv"
    image = train / "c68fe75ea.tiff"
    if what == "image missing":
        image.unlink()
    elif what == "image empty":
        image.write_bytes(b"")
    elif what == "image half there":
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    elif what == "unknown image":
        write_tiff(train / "123456789.tiff", kidney())
    elif what == "image twice":
        write_tiff(folder / "copy" / "c68fe75ea.tiff", kidney())
    elif what == "reduced copy":
        write_tiff(image, np.ascontiguousarray(kidney()[::2, ::2]))
    elif what == "no patients":
        information.write_text("image_file,width_pixels\nc68fe75ea.tiff,640\n")
    elif what == "not unpacked":
        for path in folder.rglob("*.tiff"):
            path.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("image missing", "1 annotated images are missing: c68fe75ea.tiff"),
        ("image empty", "c68fe75ea.tiff: the file is empty"),
        ("image half there", "c68fe75ea.tiff: "),
        ("unknown image", "the donor of 123456789 is not known"),
        ("image twice", "c68fe75ea.tiff: the same image as"),
        ("reduced copy", "c68fe75ea.tiff: 320 x 260 px, but HuBMAP-20-dataset_information.csv says 640 x 520"),
        ("no patients", "HuBMAP-20-dataset_information.csv: no column 'patient_number'"),
        ("not unpacked", "no TIFF images"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_no_table_is_written(folder, tmp_path, what, message):
    spoil(folder, what)
    with pytest.raises(UserError) as caught:
        make_table.main(["hubmap", str(folder), "--output", str(tmp_path / "slides.csv")])
    assert message in str(caught.value)
    assert not (tmp_path / "slides.csv").exists()

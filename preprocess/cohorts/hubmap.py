"""HuBMAP, "Hacking the Kidney" (2021): whole slides of human kidney, PAS, fresh frozen and FFPE, one class.

Folder: ``{train,test}/ID.tiff``, ``ID.json`` (outlines) beside the training images, ``train.csv`` (id, encoding) and
``HuBMAP-20-dataset_information.csv`` (image_file, width_pixels, height_pixels, patient_number, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.cohorts.cohort_table import (
    DOWNLOAD_AGAIN,
    CohortTable,
    Fractions,
    by_name,
    files_below,
    inspect_slide,
    read_cohort_csv,
    short_list,
    table_row,
    with_splits,
)

RUN_LENGTHS, INFORMATION = "train.csv", "HuBMAP-20-dataset_information.csv"
NOMINAL_MPP = 0.5
"""The organisers count 4 pixels to the square micrometre in all slides (see docs/recipes.md)."""
FRACTIONS = (0.6, 0.2, 0.2)
_STRUCTURES = "-anatomical-structure"

# Kaggle id, donor (of the slide's name at HuBMAP) and preservation of all 30 slides; source: docs/recipes.md.
_TABLE = """
00a67c839 VAN0032 FFPE  0486052bb VAN0011 FFPE  0749c6ccc VAN0032 FFPE  095bf7a1f VAN0012 frozen
1e2425f28 VAN0008 frozen  1eb18739d VAN0010 frozen  26dc41664 VAN0013 frozen  2ec3f1bb9 VAN0010 FFPE
2f6ecfcdf VAN0014 FFPE  3589adb90 VAN0013 FFPE  4ef6695ce VAN0016 frozen  5274ef79a VAN0031 frozen
54f2eec69 VAN0006 frozen  57512b7f1 VAN0014 frozen  5d8b53a68 VAN0029 frozen  8242609fa VAN0016 FFPE
9e81e2693 VAN0006 frozen  a14e495cf VAN0034 FFPE  aa05346ff VAN0005 frozen  aaa6a05cc VAN0003 FFPE
afa5e8098 VAN0005 frozen  b2dc8411c VAN0009 FFPE  b9a3865fc VAN0005 FFPE  bacb03928 VAN0034 frozen
c68fe75ea VAN0010 frozen  cb2d976f4 VAN0006 FFPE  d488c759a VAN0007 frozen  e464d2f6c VAN0034 FFPE
e79de561c VAN0009 frozen  ff339c0b2 VAN0034 FFPE
"""
_SLIDES = _TABLE.split()
DONORS = dict(zip(_SLIDES[0::3], _SLIDES[1::3], strict=True))
PRESERVATION = dict(zip(_SLIDES[0::3], _SLIDES[2::3], strict=True))


def build(folder: Path, extras: Path, *, mpp: float | None = None, fractions: Fractions | None = None) -> CohortTable:
    """The annotated slides below ``folder``, dealt by donor; a :class:`preprocess.cohorts.cohort_table.Builder`.

    The competition's own test slides come without outlines and are left out; where outlines of them are at hand (as
    ``ID.json``), they are slides like all others, since four of five share a donor with the training slides.
    """
    images = by_name(files_below(folder, "*.tiff", "*.tif"))
    if not images:
        raise UserError("no TIFF images", path=folder, remedy="unpack hubmap-kidney-segmentation.zip here")
    annotations = _annotations(folder)
    if absent := sorted(set(annotations) - set(images)):
        raise UserError(
            f"{len(absent)} annotated images are missing: {short_list(f'{name}.tiff' for name in absent)}",
            path=folder,
            remedy=DOWNLOAD_AGAIN,
        )
    information = _information(folder)
    patients = _patients(images, information, folder)
    rows: list[dict[str, Any]] = []
    notes = _leaks(images, patients)
    for name in progress(sorted(set(images) & set(annotations)), description="looking at slides", unit="slide"):
        info = inspect_slide(images[name], NOMINAL_MPP if mpp is None else mpp)
        nominal = info.mpp is not None and mpp is None
        notes += _check_size(images[name], info.size, information.get(name, {}), nominal)
        info = replace(info, mpp_source="nominal") if nominal else info
        preservation = PRESERVATION.get(name, "unknown")
        row = table_row(images[name], annotations[name], info, patients[name], stain="PAS", preservation=preservation)
        rows.append(row)
    if not rows:
        raise UserError(f"none of the {len(images)} images is annotated", path=folder, remedy=DOWNLOAD_AGAIN)
    if bare := sorted(set(images) - set(annotations)):
        notes.append(f"{len(bare)} slides without outlines are left out: {short_list(bare, 30)}")
    return CohortTable(with_splits(rows, fractions or FRACTIONS, "preservation"), tuple(notes))


def _annotations(folder: Path) -> dict[str, Path]:
    """The annotation of each image that has one: its own outlines, else the table of run lengths."""
    tables = files_below(folder, RUN_LENGTHS)
    found = {name: path for path in tables for name in read_cohort_csv(path, ["id", "encoding"])["id"]}
    outlines = [path for path in files_below(folder, "*.json") if not path.stem.endswith(_STRUCTURES)]
    return found | by_name(outlines)


def _information(folder: Path) -> dict[str, Mapping[str, str]]:
    """The rows of the information file by image, none without the file."""
    for path in files_below(folder, INFORMATION)[:1]:
        table = read_cohort_csv(path, ["image_file", "patient_number"])
        return {row["image_file"].removesuffix(".tiff"): row for row in table.to_dict("records")}
    return {}


def _patients(images: Iterable[str], information: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, str]:
    """The donor of each image: the file's patient number, by whatever route it is known; else HuBMAP's donor code."""
    numbers = {name: row["patient_number"] for name, row in information.items() if row["patient_number"]}
    number_of_donor = {DONORS[name]: number for name, number in numbers.items() if name in DONORS}
    patients: dict[str, str] = {}
    for name in images:
        donor = DONORS.get(name, "")
        patients[name] = numbers.get(name) or number_of_donor.get(donor, donor)
        if not patients[name]:
            raise UserError(
                f"the donor of {name} is not known",
                path=folder,
                remedy=f"add its row to {INFORMATION}: image_file, patient_number",
            )
    return patients


def _leaks(images: Mapping[str, Path], patients: Mapping[str, str]) -> list[str]:
    """A line for each image in a folder ``test`` whose donor is also in a folder ``train``."""
    lines = []
    for name, path in sorted(images.items()):
        kin = [other for other in images if patients[other] == patients[name] and images[other].parent.name == "train"]
        if path.parent.name == "test" and kin:
            lines.append(f"the download's test/{name} shares its donor with train/{', train/'.join(sorted(kin))}")
    return lines


def _check_size(path: Path, size: Size, row: Mapping[str, str], nominal: bool) -> list[str]:
    """UserError for a reduced copy, whose pixels are not of the nominal size; a note where one side differs."""
    stated = tuple(row.get(column, "") for column in ("width_pixels", "height_pixels"))
    differ = [
        side for side, value in zip((size.width, size.height), stated, strict=True) if value not in ("", str(side))
    ]
    text = f"{size.width} x {size.height} px, but {INFORMATION} says {' x '.join(stated)}"
    if len(differ) == 2 and nominal:
        raise UserError(text, path=path, remedy="a reduced copy needs its own --mpp; else download it again")
    return [f"{path.name}: {text}"] if differ else []

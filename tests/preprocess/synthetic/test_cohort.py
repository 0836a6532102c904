"""The demo cohort: splits, tables, resuming, and bytes that do not depend on the workers."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.synthetic.cohort import UNSEEN, demo_cohort, make_cohort, summary, varied
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.stain import DYES

COUNTS = {"train": 8, "val": 2, "test": 4}


def small_cohort() -> list[SlideSpec]:
    specs = demo_cohort(7, {"train": 1, "val": 1, "test": 0}, size_px=(1280, 1024))
    return [dataclasses.replace(spec, glomeruli=(1, 2)) for spec in specs]


def test_both_stains_and_flavours_and_no_patient_in_two_splits() -> None:
    specs = demo_cohort(7, COUNTS)
    assert [sum(spec.split == split for spec in specs) for split in (*COUNTS, UNSEEN)] == [8, 2, 4, 1]
    for split in COUNTS:
        assert {spec.stain for spec in specs if spec.split == split} == {"PAS", "HE"}
    assert {spec.kind for spec in specs} == {"wedge", "cores"}
    splits_of = {spec.patient: {other.split for other in specs if other.patient == spec.patient} for spec in specs}
    assert all(len(splits) == 1 for splits in splits_of.values())
    slides_of = [sum(other.patient == patient for other in specs) for patient in splits_of]
    assert set(slides_of) == {1, 2}
    assert any(spec.flavour == "tiff" for spec in specs if spec.split != UNSEEN)
    assert len({spec.name for spec in specs}) == len({spec.seed for spec in specs}) == len(specs)


def test_more_validation_slides_leave_the_others_as_they_are() -> None:
    larger = demo_cohort(7, {**COUNTS, "val": 3})
    assert set(demo_cohort(7, COUNTS)) <= set(larger)
    assert not set(demo_cohort(8, COUNTS)) & set(larger)


def test_bytes_do_not_depend_on_workers_and_finished_slides_are_kept(tmp_path: Path) -> None:
    specs = small_cohort()
    one, two = tmp_path / "one", tmp_path / "two"
    assert not any(slide.reused for slide in make_cohort(specs, one, workers=1))
    make_cohort(specs, two, workers=2)
    files = sorted(path.relative_to(one) for path in one.rglob("*.*"))
    assert len(files) == 2 * len(specs) + 2
    assert [sha256_of(one / file) for file in files] == [sha256_of(two / file) for file in files]

    again = make_cohort([dataclasses.replace(specs[0], seed=99), *specs[1:]], one, workers=1)
    assert [slide.reused for slide in again] == [False, True, True]
    assert "3 slides" in summary(again)


def test_the_table_gives_mpp_only_where_the_slide_does_not(tmp_path: Path) -> None:
    specs = small_cohort()
    make_cohort(specs, tmp_path)
    rows = {name: list(csv.DictReader((tmp_path / name).open())) for name in ("slides.csv", "unseen.csv")}
    assert [row["split"] for row in rows["slides.csv"]] == ["train", "val"]
    assert [row["split"] for row in rows["unseen.csv"]] == ["unseen"]
    for row in rows["slides.csv"] + rows["unseen.csv"]:
        assert (tmp_path / row["slide"]).is_file()
        assert (tmp_path / row["annotation"]).is_file()
        assert bool(row["mpp"]) == row["slide"].endswith(".tiff")


def test_a_varied_cohort_has_the_same_slides_from_many_laboratories(tmp_path: Path) -> None:
    specs = demo_cohort(7, {**COUNTS, "train": 14})
    others = varied(specs)
    assert [(spec.seed, spec.patient, spec.split) for spec in others] == [(s.seed, s.patient, s.split) for s in specs]
    assert {spec.stain for spec in others if spec.split == "train"} == set(DYES)
    assert len({spec.look for spec in others}) == len({spec.difficulty for spec in others}) == len(others)
    assert len({spec.name for spec in others}) == len(others)
    assert varied(specs) == others
    small = [dataclasses.replace(spec, size_px=(1280, 1024), glomeruli=(1, 2)) for spec in others[2:5]]
    assert all(slide.size_bytes > 50_000 for slide in make_cohort(small, tmp_path))


def test_no_workers_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="workers"):
        make_cohort([], tmp_path, workers=0)


def test_unlabelled_slides_are_the_last_of_a_larger_cohort_with_their_labels_kept_aside(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("preprocess.synthetic.cohort.run_cohort", lambda *_: [])
    specs = demo_cohort(7, {"train": 3, "val": 1, "test": 1})
    make_cohort(specs, tmp_path, unlabelled=2)
    table, oracle = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("slides.csv", "oracle.csv")
    )
    assert [row["labelled"] for row in table] == ["yes", "no", "no", "yes", "yes"]
    assert [bool(row["annotation"]) for row in table] == [row["labelled"] == "yes" for row in table]
    assert [row["slide"] for row in table] == [row["slide"] for row in oracle]
    make_cohort(specs, tmp_path)
    assert (tmp_path / "slides.csv").read_text() == (tmp_path / "oracle.csv").read_text()

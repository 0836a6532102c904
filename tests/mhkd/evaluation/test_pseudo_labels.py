from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mhkd.deploy.load import load_model
from mhkd.evaluation import pseudo_labels
from mhkd.evaluation.matching import Matches
from mhkd.evaluation.pseudo_labels import Thresholds, make_pseudo_labels
from mhkd.inference.slide_job import ModelFile
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.slides.table import read_slides_csv
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.pseudo_labels import PseudoLabels
from preprocess.tiles.tile_set import plan_jobs, tile_slides, write_manifest
from tests.detectors import write_detector


def matches(right: list[float], wrong: list[float], num_objects: int) -> Matches:
    scores = np.array([*right, *wrong])
    order = np.argsort(-scores, kind="stable")
    correct = np.arange(len(scores)) < len(right)
    zeros = np.zeros(len(scores), int)
    return Matches(scores[order], correct[order], zeros, zeros, zeros, np.array([num_objects]))


def test_a_sure_detector_has_a_high_and_an_unsure_threshold_below_it() -> None:
    found = Thresholds.best(matches([0.99, 0.98, 0.97, 0.4], [0.3, 0.2], 4))
    assert (found.sure, found.unsure) == (0.4, 0.2)  # half of it, although everything is found above
    assert (found.precision, found.recall) == (1.0, 1.0)
    assert "1 validation slides" in found.origin


def test_precision_goes_before_f1_and_what_is_found_late_is_unsure() -> None:
    # F1 is best at 0.5, where a third of the detections are wrong.
    right, wrong = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1], [0.75, 0.55, 0.45]
    found = Thresholds.best(matches(right, wrong, 6))
    assert found.sure == 0.8
    assert found.unsure == 0.1
    assert found.precision == 1.0


def test_a_threshold_is_never_below_what_is_merged() -> None:
    assert Thresholds.best(matches([0.08], [], 1)).unsure == 0.05


def test_a_detector_that_finds_nothing_has_none() -> None:
    with pytest.raises(UserError, match="finds no object of the validation slides"):
        Thresholds.best(matches([], [0.9], 3))


@pytest.fixture(scope="module")
def table(slides_csv: Path) -> Path:
    """The slide a to train on, b to validate on, and c, which is not labelled."""
    path = slides_csv.with_name("with-unlabelled.csv")
    path.write_text(
        "slide,annotation,patient,split,labelled\n"
        "a.svs,a.geojson,a,train,yes\nb.svs,b.geojson,b,val,yes\nc.svs,,c,train,no\n"
    )
    return path


@pytest.fixture(scope="module")
def manifest(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root, spec = tmp_path_factory.mktemp("tiles"), PairSpec(teacher_mpp=2.0, student_mpp=8.0, tile_px=128)
    results, _ = tile_slides(plan_jobs(read_slides_csv(table), root, spec, fractions=(0.7, 0.15, 0.15)), 0)
    manifest = write_manifest(results, root)
    manifest.labels = ["glomerulus"]  # as the untrained detector's
    return manifest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = write_detector(tmp_path_factory.mktemp("models") / "detector.pth")
    return ModelFile.of(load_model, path, "cpu", 0, backend="torch")


GIVEN = {"sure_thresh": 0.5, "unsure_thresh": 0.05}


def test_unlabelled_slides_are_searched_once(table, manifest, model, tmp_path, monkeypatch) -> None:
    made = make_pseudo_labels(model, table, manifest, tmp_path, **GIVEN)
    assert list(made.slides) == ["c"]
    assert len(made.slides["c"]) > 0
    assert made.model_sha256 == model.sha256
    assert made.slides == PseudoLabels.read(tmp_path).slides
    assert not (tmp_path / "search" / "b.json").exists()  # nothing is to be chosen on it
    first = (tmp_path / "search" / "c.json").stat().st_mtime_ns
    again = make_pseudo_labels(model, table, manifest, tmp_path, sure_thresh=0.6, unsure_thresh=0.1)
    assert (tmp_path / "search" / "c.json").stat().st_mtime_ns == first
    assert len(again.slides["c"]) <= len(made.slides["c"])
    header = json.loads((tmp_path / "labels.json").read_text())
    assert header["thresholds"] == {"sure": 0.6, "unsure": 0.1, "origin": "given", "precision": None, "recall": None}
    assert "1 slides" in made.lines()[0]


def test_another_detector_searches_them_again(table, manifest, model, tmp_path) -> None:
    make_pseudo_labels(model, table, manifest, tmp_path, **GIVEN)
    first = (tmp_path / "search" / "c.json").read_bytes()
    other = write_detector(tmp_path / "other.pth", "MODEL.ROI_BOX_HEAD.FC_DIM", 24)
    made = make_pseudo_labels(
        ModelFile.of(load_model, other, "cpu", 0, backend="torch"), table, manifest, tmp_path, **GIVEN
    )
    assert (tmp_path / "search" / "c.json").read_bytes() != first
    assert made.model_sha256 != model.sha256


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sure_thresh": 0.2, "unsure_thresh": 0.4}, "do not go together"),
        ({"sure_thresh": 0.5, "unsure_thresh": 0.01}, "do not go together"),
        ({"sure_thresh": 1.5, "unsure_thresh": 0.1}, "do not go together"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(table, manifest, model, tmp_path, options, reason) -> None:
    with pytest.raises(UserError, match=reason):
        make_pseudo_labels(model, table, manifest, tmp_path, **options)
    assert not (tmp_path / "labels.json").exists()


def test_what_cannot_be_labelled_is_one_line(table, manifest, model, tmp_path, slides_csv) -> None:
    short = slides_csv.with_name("short.csv")
    short.write_text("slide,annotation,split\na.svs,a.geojson,train\n")
    with pytest.raises(UserError, match=r"short\.csv: does not list the slide c"):
        make_pseudo_labels(model, short, manifest, tmp_path, **GIVEN)
    blind = slides_csv.with_name("blind.csv")
    blind.write_text("slide,annotation,split,labelled\na.svs,a.geojson,train,yes\nc.svs,,train,no\n")
    with pytest.raises(UserError, match=r"blind\.csv: no annotated validation slide"):
        make_pseudo_labels(model, blind, manifest, tmp_path)
    wrong = Manifest(**{**vars(manifest), "labels": ["Tuft"]})
    with pytest.raises(UserError, match="the model's classes are glomerulus, those of the tiles Tuft"):
        make_pseudo_labels(model, table, wrong, tmp_path, **GIVEN)


def test_a_slide_that_cannot_be_searched_leaves_no_labels(table, manifest, model, tmp_path, monkeypatch) -> None:
    make_pseudo_labels(model, table, manifest, tmp_path, **GIVEN)
    (tmp_path / "search" / "c.json").unlink()

    def broken(*_: object, **__: object) -> None:
        raise UserError("damaged", path="c.svs")

    monkeypatch.setattr("mhkd.inference.slide_runner.open_slide", broken)
    with pytest.raises(UserError, match=r"c\.svs: damaged"):
        make_pseudo_labels(model, table, manifest, tmp_path, **GIVEN)


def test_without_unlabelled_slides_there_is_nothing_to_do(table, manifest, model, tmp_path) -> None:
    made = make_pseudo_labels(model, table, manifest.labelled(), tmp_path)
    assert made.lines() == ["no slide is unlabelled: there is nothing to label"]
    assert PseudoLabels.read(tmp_path).slides == {}


def test_thresholds_come_from_validation_slides(table, manifest, model, tmp_path, monkeypatch) -> None:
    seen = []

    def best(found: Matches) -> Thresholds:
        seen.append(len(found.num_objects))
        return Thresholds(0.5, 0.1, "best")

    monkeypatch.setattr(pseudo_labels.Thresholds, "best", best)
    one_class = ClassMap.choose(None, "glomerulus")
    monkeypatch.setattr(
        pseudo_labels,
        "evaluated_cohort",
        lambda given, manifest: (read_slides_csv(given), one_class),
    )
    made = make_pseudo_labels(model, table, manifest, tmp_path)
    assert seen == [1]
    assert (made.sure_thresh, made.unsure_thresh) == (0.5, 0.1)

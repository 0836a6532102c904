"""The model that comes with the package: intact, small, described, and able to find glomeruli out of the box."""

from __future__ import annotations

import json
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.register import MAX_BYTES
from mhkd.deploy.registry import BUNDLED, find_model, read_registry
from mhkd.inference.slide_job import open_predictor
from mhkd.weights import read_checkpoint
from preprocess.base.console import run_main
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.slides import make_slide, slide_path
from tools import evaluate_groups, infer_wsi

REPOSITORY = Path(__file__).parents[1]
MIN_RECALL = 60
"""In percent, with a margin for other roundings; a broken file finds nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide like those of the demo that nothing was trained on, with outlines and a table."""
    folder = tmp_path_factory.mktemp("slide")
    spec = SlideSpec("new", "P1", "test", seed=20_251, size_px=(4096, 3072), glomeruli=(10, 12))
    make_slide(spec, folder)
    path = slide_path(spec, folder).relative_to(folder)
    (folder / "slides.csv").write_text(f"slide,annotation,stain\n{path},annotations/new.geojson,PAS\n")
    return folder


@pytest.fixture(autouse=True)
def forget_models():
    open_predictor.cache_clear()
    yield
    open_predictor.cache_clear()


def test_the_file_is_the_one_that_the_table_means_and_small_enough_to_ship() -> None:
    path = find_model(BUNDLED)
    assert path.stat().st_size <= MAX_BYTES
    weights = read_checkpoint(path)["model"]
    assert {value.dtype for value in weights.values() if value.ndim > 1} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_it_loads_strictly_and_says_what_it_wants() -> None:
    detector = load_detector(find_model(BUNDLED))
    assert (detector.input_mpp, detector.class_names) == (8.0, ("Glomerulus",))
    assert 0.05 < detector.score_thresh < 0.95
    assert "/" not in json.dumps(detector.provenance), "a path of the machine that trained it"


def test_the_package_carries_every_model_of_the_table() -> None:
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["mhkd.deploy"].split(", ")
    for entry in read_registry().values():
        assert any(fnmatch(entry.path.name, pattern) for pattern in patterns)


def test_its_card_says_what_a_user_must_know() -> None:
    card = read_registry()[BUNDLED].card
    assert {"trained_on", "metrics", "limits", "licence", "attribution", "use", "provenance"} <= card.keys()
    assert "10.17632/k7nvtgn2x6.3" in card["attribution"]
    assert "not for diagnosis" in card["use"]
    shown = (REPOSITORY / "docs" / "model_card.md").read_text(encoding="utf-8")
    assert read_registry()[BUNDLED].sha256 in shown
    assert card["attribution"] in " ".join(shown.replace("\n> ", " ").split())


def test_it_finds_glomeruli_without_a_word_about_models(folder, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: infer_wsi.main([str(folder / "slides"), "--output-dir", str(tmp_path), "--device", "cpu"]))
    out = capsys.readouterr().out
    assert exit_info.value.code == 0
    assert f"model: {BUNDLED}" in out
    summary = json.loads((tmp_path / "new.json").read_text())
    assert summary["model"]["name"] == BUNDLED
    assert summary["model"]["card"] == read_registry()[BUNDLED].card
    page = (tmp_path / "new.report.html").read_text()
    assert BUNDLED in page
    assert "not for diagnosis" in page


def test_it_finds_most_of_them_and_little_else(folder, tmp_path) -> None:
    assert evaluate_groups.main([str(folder / "slides.csv"), "--by", "stain", "--output-dir", str(tmp_path)]) == 0
    header, row = (tmp_path / "groups.csv").read_text().splitlines()
    figures = dict(zip(header.split(","), row.split(","), strict=True))
    assert int(figures["objects"]) >= 8
    assert float(figures["recall"]) >= MIN_RECALL
    assert float(figures["precision"]) >= 50

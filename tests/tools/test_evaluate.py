from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from mhkd.evaluation.plots import PLOTS
from preprocess.base.console import run_main
from tests.blobs import DISCS, BlobDetector, write_annotations, write_blob_slide, write_cohort
from tools import evaluate, make_tiles


class Blind(BlobDetector):
    """Finds nothing."""

    def _find(self, image):
        return super()._find(image)[:0]


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """slides.csv of a train, a val and a test slide; the detector of blind.pth finds nothing, any other finds discs."""
    rows = []
    for name in ("train", "val", "test"):
        write_blob_slide(tmp_path / f"{name}.svs")
        write_annotations(tmp_path / f"{name}.geojson")
        rows.append({"slide": f"{name}.svs", "annotation": f"{name}.geojson", "patient": name, "split": name})
    for name in ("sharp", "blind"):
        (tmp_path / f"{name}.pth").write_bytes(name.encode())

    def load(path, *, device):
        return (Blind if Path(path).stem == "blind" else BlobDetector)(path=Path(path))

    monkeypatch.setattr(evaluate, "load_model", load)
    return write_cohort(tmp_path, rows)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: evaluate.main([*map(str, arguments)]))
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_tiles_and_slides_of_two_models_make_a_table_and_json(capsys, cohort, tmp_path):
    tiles, out = tmp_path / "tiles", tmp_path / "evaluation"
    sizes = ("--teacher-mpp", "1", "--student-mpp", "4", "--tile-px", "384", "--workers", "1")
    assert make_tiles.main([str(cohort), "--output-dir", str(tiles), *sizes]) == 0
    capsys.readouterr()
    models = ("--model", f"sharp={tmp_path / 'sharp.pth'}", "--model", f"blind={tmp_path / 'blind.pth'}")
    status, printed, _ = run(capsys, "--slides", cohort, "--tiles", tiles, "--output-dir", out, *models)
    assert status == 0
    results = json.loads((out / "evaluation.json").read_text())
    sharp, blind = results["models"]["sharp"], results["models"]["blind"]
    assert sharp["slides"]["num_objects"] == len(DISCS)
    assert (sharp["slides"]["AP50"], sharp["slides"]["F1"]) == (pytest.approx(100), pytest.approx(100))
    assert sharp["slides"]["score_thresh_origin"] == "best F1 on val"
    assert sharp["tiles"]["tiles_of"] == "student"
    # Nothing was asked for: these are what the search chose.
    assert (sharp["settings"]["tile_px"], sharp["settings"]["overlap"]) == (96, 0.25)
    assert sharp["computed_by"] == "colours, cpu"
    assert sharp["tiles"]["AP50"] > 90
    assert (blind["slides"]["AP"], blind["slides"]["F1"], blind["tiles"]["AP"]) == (0, 0, 0)
    assert list(sharp["slides"]["by_patient"]) == ["test"]
    assert sharp["slides"]["centre_F1"] == pytest.approx(100)
    assert results["differences"]["sharp"]["AP50"]["difference"] == pytest.approx(-100)
    for name in PLOTS:
        assert cv2.imread(str(out / name)).size
    assert printed.splitlines()[:4] == (out / "evaluation.md").read_text().splitlines()[:4]


def test_slides_alone_are_enough(capsys, cohort, tmp_path):
    arguments = ("--slides", cohort, "--output-dir", tmp_path / "out", "--model", tmp_path / "sharp.pth")
    status, printed, _ = run(capsys, *arguments, "--score-thresh", "0.5")
    assert status == 0
    assert f"{tmp_path.name}/sharp" in printed


def test_the_worst_failures_are_put_on_sheets(capsys, cohort, tmp_path):
    write_annotations(tmp_path / "test.geojson", DISCS[:-1], label="gs")  # one that is found is no object
    (tmp_path / "map.yaml").write_text("gs: glomerulus\n")
    header, *rows = cohort.read_text().splitlines()
    stained = [f"{row},{'PAS' if row.endswith('test') else ''}" for row in rows]
    cohort.write_text("\n".join([f"{header},stain", *stained]))
    models = [argument for name in ("sharp", "blind") for argument in ("--model", f"{name}={tmp_path / name}.pth")]
    arguments = ("--slides", cohort, "--output-dir", tmp_path / "out", *models, "--class-map", tmp_path / "map.yaml")
    status, printed, err = run(capsys, *arguments, "--gallery", "2")
    assert status == 0, err
    assert str(tmp_path / "out" / "gallery" / "gallery.csv") in printed
    assert sorted(path.name for path in (tmp_path / "out" / "gallery").iterdir()) == [
        *("blind.PAS.missed.png", "gallery.csv", "sharp.PAS.false.png")
    ]
    status, _, err = run(capsys, *arguments, "--gallery", "--gallery-by", "scanner")
    assert status == 1
    assert "no column 'scanner'" in err


def test_thresholds_that_were_not_validated_are_not_stored(capsys, cohort, tmp_path):
    arguments = ("--slides", cohort, "--output-dir", tmp_path / "out", "--model", f"a={tmp_path / 'sharp.pth'}")
    status, _, err = run(capsys, *arguments, "--score-thresh", "0.5", "--store-thresholds")
    assert status == 1
    assert "there is no threshold of a to store: it is given" in err
    assert not (tmp_path / "out" / "a.pth").exists()


def test_two_models_of_one_name_are_refused(capsys, cohort, tmp_path):
    status, _, err = run(capsys, "--slides", cohort, "--output-dir", tmp_path, "--model", "a=x", "--model", "a=y")
    assert status == 1
    assert "two models are named 'a'" in err

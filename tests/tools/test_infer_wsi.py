from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from mhkd.inference import formats
from mhkd.inference.formats import Format
from mhkd.inference.report.cohort import INDEX, TABLE
from mhkd.inference.slide_job import open_predictor
from preprocess.base.console import run_main
from preprocess.base.files import exclusive_use
from preprocess.slides.slide import Slide
from tests.blobs import DISCS, BlobDetector, write_annotations, write_blob_slide
from tests.jobs import load_blobs
from tools import infer_wsi

OF_ALL = (INDEX, TABLE)


@pytest.fixture
def slide(tmp_path):
    return write_blob_slide(tmp_path / "blobs.svs")


@pytest.fixture(autouse=True)
def blob_detector(monkeypatch):
    """The one part of the tool that is not real."""
    open_predictor.cache_clear()
    monkeypatch.setattr(infer_wsi, "load_model", lambda path, device, backend: BlobDetector(path=Path(__file__)))
    monkeypatch.setattr(infer_wsi, "check_model", lambda path, backend: None)
    yield
    open_predictor.cache_clear()


def run(capsys, *arguments):
    """Exit status, standard output and standard error as a shell would see them."""
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: infer_wsi.main([*map(str, arguments), "--checkpoint", __file__]))
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_a_slide_is_searched_and_the_end_says_what_was_found_and_where(capsys, slide, tmp_path):
    status, out, _ = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 0
    assert f"blobs: found {len(DISCS)} glomeruli" in out
    assert out.startswith("1 slides done, 0 skipped, 0 failed")
    assert out.rstrip().endswith(f"results in {tmp_path / 'out'}")
    summary = json.loads((tmp_path / "out" / "blobs.json").read_text())
    assert len(summary["model"]["sha256"]) == 64
    assert "versions" in summary["provenance"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(
            f"blobs{suffix}"
            for suffix in (".csv", ".weak.csv", ".geojson", ".overlay.jpg", ".report.html", ".report.json", ".json")
        ),
        *OF_ALL,
    }


def test_a_bad_slide_does_not_stop_the_others(capsys, slide, tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"not a slide")
    missing = tmp_path / "missing.svs"
    status, out, err = run(capsys, missing, tmp_path / "broken.svs", slide, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "blobs: found" in out
    assert "1 slides done, 0 skipped, 2 failed" in out
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert f"missing: {missing}: no such slide" in failed[0]
    assert "broken.svs" in failed[1]
    assert "Traceback" not in err
    assert pd.read_csv(tmp_path / "out" / "failed.csv")["slide"].tolist() == ["missing.svs", "broken.svs"]


def test_one_bad_slide_alone_is_an_error_in_one_line(capsys, tmp_path):
    missing = tmp_path / "missing.svs"
    status, _, err = run(capsys, missing, "--output-dir", tmp_path / "out")
    assert status == 1
    assert [line for line in err.splitlines() if "missing" in line] == [
        f"failed: missing: {missing}: no such slide (check the path)"
    ]


def test_a_folder_is_searched_and_its_own_results_are_no_slides(capsys, slide, tmp_path):
    (tmp_path / "deep").mkdir()
    shutil.copy(slide, tmp_path / "deep" / "other.svs")
    for done, skipped in ((2, 0), (0, 2)):
        status, out, err = run(capsys, tmp_path, "--output-dir", tmp_path / "out")
        assert status == 0, err
        assert f"{done} slides done, {skipped} skipped, 0 failed" in out
    assert f"{2 * len(DISCS)} glomerulus in" in out


def test_the_table_gives_mpp_and_patient(capsys, tmp_path):
    write_blob_slide(tmp_path / "a.svs", mpp=None)
    (tmp_path / "slides.csv").write_text("slide,mpp,patient,split\na.svs,0.5,P 1,unseen\n")
    status, _, err = run(capsys, tmp_path / "slides.csv", "--output-dir", tmp_path / "out")
    assert status == 0, err
    summary = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (summary["mpp"], summary["mpp_source"], summary["patient"]) == (0.5, "given", "P 1")


def test_formats_are_chosen_and_added_later(capsys, slide, tmp_path):
    out = tmp_path / "out"
    assert run(capsys, slide, "--output-dir", out, "--formats", "coco", "asap")[0] == 0
    names = {"blobs.csv", "blobs.weak.csv", "blobs.json", "blobs.coco.json", "blobs.asap.xml", *OF_ALL}
    assert {path.name for path in out.iterdir()} == names
    seconds = json.loads((out / "blobs.json").read_text())["seconds"]
    assert run(capsys, slide, "--output-dir", out, "--formats", *formats.FORMATS)[0] == 0
    assert {path.name for path in out.iterdir()} > names
    assert json.loads((out / "blobs.json").read_text())["seconds"] == seconds  # of the one search there was
    with pytest.raises(SystemExit) as exit_info:
        infer_wsi.main([str(slide), "--formats", "yolo"])
    assert exit_info.value.code == 2


def test_neutral_names_and_the_key_to_them(capsys, slide, tmp_path):
    secret = slide.rename(tmp_path / "Smith.svs")
    out, key = tmp_path / "out", tmp_path / "key.csv"
    every = ["--formats", *formats.FORMATS]
    status, printed, err = run(capsys, secret, "--output-dir", out, "--anonymize", "--key", key, *every)
    assert status == 0, err
    (row,) = pd.read_csv(key).to_dict("records")
    assert row["slide"] == str(secret)
    assert row["name"] in printed
    assert all(path.name.startswith(row["name"]) for path in out.iterdir() if path.name not in OF_ALL)
    assert not any(b"Smith" in path.read_bytes() for path in out.iterdir())
    # The same names the next time, and no key unless asked for.
    key.unlink()
    assert "0 slides done, 1 skipped" in run(capsys, secret, "--output-dir", out, "--anonymize", *every)[1]
    assert not key.exists()


def test_a_slide_without_mpp_asks_for_it_and_takes_it(capsys, tmp_path):
    path = write_blob_slide(tmp_path / "blobs.svs", mpp=None)
    status, _, err = run(capsys, path, "--output-dir", tmp_path / "out")
    assert status == 1
    assert "--mpp" in err
    assert run(capsys, path, "--output-dir", tmp_path / "out", "--mpp", "0.5")[0] == 0


def test_warnings_stand_below_the_slide(capsys, slide, tmp_path, monkeypatch):
    monkeypatch.setattr(
        infer_wsi, "load_model", lambda path, device, backend: BlobDetector(input_mpp=0.3, path=Path(__file__))
    )
    status, out, _ = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 0
    assert "    warning: the slide has 0.5 um/px, coarser than the 0.3 um/px of the model" in out


def test_nothing_found_is_no_error(capsys, tmp_path):
    status, out, _ = run(capsys, write_blob_slide(tmp_path / "a.svs", discs=()), "--output-dir", tmp_path / "out")
    assert status == 0
    assert "found no glomerulus" in out


def test_a_full_disk_ends_the_run_at_once(capsys, slide, tmp_path, monkeypatch):
    def full(path, record):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setitem(formats.FORMATS, "csv", Format(".csv", full))
    other = write_blob_slide(tmp_path / "other.svs", discs=())
    status, _, err = run(capsys, slide, other, "--output-dir", tmp_path / "out")
    assert status == 1
    assert "no space left on the device" in err
    assert list((tmp_path / "out").glob("*")) == []


def test_ctrl_c_leaves_nothing_half_written(capsys, slide, tmp_path, monkeypatch):
    def interrupted(self, inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(BlobDetector, "model", interrupted)
    status, _, err = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 130
    assert "interrupted" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_second_search_in_the_same_folder_is_refused(capsys, slide, tmp_path):
    with exclusive_use(tmp_path / "out"):
        status, _, err = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 1
    assert err.splitlines()[-1].startswith(f"error: {tmp_path / 'out'}: another process is at work here")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_picture_costs_its_own_row_and_results_are_not_searched_again(capsys, slide, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Slide.open(slide) as opened:
        cv2.imwrite(str(folder / "discs.png"), opened.thumbnail(1000)[..., ::-1])
    cv2.imwrite(str(folder / "line.jpg"), np.full((3, 5000, 3), 200, np.uint8))
    cv2.imwrite(str(folder / "dot.png"), np.full((1, 1, 3), 200, np.uint8))
    shutil.copy(folder / "dot.png", os.fsencode(folder) + b"/new\nl\xe4ne.png")
    (folder / "empty.jpg").touch()
    (folder / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for _ in range(2):
        status, out, err = run(capsys, folder, "--mpp", 1, "--output-dir", folder)
        assert status == 3
        assert f"discs: found {len(DISCS)} glomeruli" in out
        failed = [line for line in err.splitlines() if line.startswith("failed: ")]
        reasons = ["empty.jpg: an empty file", "gone.jpg: a link to nothing", "pipe.jpg: no regular file"]
        assert [reason in line for reason, line in zip(reasons, failed, strict=True)] == [True] * 3
        table = pd.read_csv(folder / TABLE)
        assert table["slide"].tolist() == [
            *("discs.png", "dot.png", "line.jpg", r"new\nl\udce4ne.png", "empty.jpg", "gone.jpg", "pipe.jpg")
        ]
    assert "4 results of this program are not searched: discs.overlay.jpg" in err


def test_what_cannot_work_is_refused_before_any_work(capsys, slide, tmp_path, monkeypatch):
    monkeypatch.setattr(infer_wsi, "load_model", None)  # calling it would be an error
    shutil.copytree(tmp_path, tmp_path / "again")
    refusals = {
        "has the same name as": [slide, tmp_path / "blobs.coco.svs"],  # whose summary would be the COCO file
        "there is no device 'gpu'": [slide, "--device", "gpu"],
        "there is no device 'cuda:99'": [slide, "--device", "cuda:99"],
        "no file is named like this": [tmp_path / "*.ndpi"],
        "no slide in this folder": [tmp_path / "empty"],
        "give --anonymize as well": [slide, "--key", tmp_path / "key.csv"],
        "is not a folder": [slide, "--output-dir", slide],
    }
    (tmp_path / "empty").mkdir()
    for reason, arguments in refusals.items():
        status, _, err = run(capsys, *arguments)
        assert status == 1, reason
        assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()
        assert reason in err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written to" in run(capsys, slide, "--output-dir", tmp_path / "out")[2]


def test_without_any_model_the_bundled_one_searches_and_is_named(capsys, slide, tmp_path):
    assert infer_wsi.main([str(slide), "--output-dir", str(tmp_path / "out")]) == 0
    assert "model: glomeruli-8um, which comes with mhkd: docs/model_card.md" in capsys.readouterr().out


def test_a_model_of_ones_own_is_named_too(capsys, slide, tmp_path):
    assert f"model: {__file__}\n" in run(capsys, slide, "--output-dir", tmp_path / "out")[1]


def test_detections_are_scored_by_annotations_now_or_later(capsys, slide, tmp_path, monkeypatch):
    other = write_blob_slide(tmp_path / "other.svs", DISCS[:4])
    (tmp_path / "truth").mkdir()
    write_annotations(tmp_path / "truth" / "blobs.svs.geojson", DISCS[:3])  # three more are found
    slides, out = (slide, other), tmp_path / "out"
    arguments = (*slides, "--output-dir", out, "--formats", "csv", "--evaluate", tmp_path / "truth")
    status, printed, err = run(capsys, *arguments)
    assert status == 0, err
    assert printed.splitlines()[0] == "2 slides done, 0 skipped, 0 failed"
    assert f"results in {out}" in printed
    assert "| F1 " in printed
    assert "not evaluated: other (no annotation)" in printed
    first = json.loads((out / "evaluation.json").read_text())
    figures = first["models"][Path(__file__).name]["slides"]
    assert (figures["F1"], figures["num_objects"]) == (pytest.approx(100 * 2 * 3 / (6 + 3)), 3)
    settings = json.loads((out / "blobs.json").read_text())["settings"]
    assert first["models"][Path(__file__).name]["settings"] == settings
    assert (settings["tile_px"], settings["merge_rule"]) == (96, "edge")
    # Finished slides are not searched again to be scored.
    monkeypatch.setattr(infer_wsi, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    (out / "evaluation.json").unlink()
    status, printed, err = run(capsys, *arguments)
    assert status == 0, err
    assert "0 slides done, 2 skipped" in printed
    assert json.loads((out / "evaluation.json").read_text()) == first
    # A table says more: the patient of each slide.
    write_annotations(tmp_path / "other.geojson", DISCS[:4])
    table = "slide,annotation,patient\nblobs.svs,truth/blobs.svs.geojson,P 1\nother.svs,other.geojson,P 2\n"
    (tmp_path / "slides.csv").write_text(table)
    assert run(capsys, *arguments[:-1], tmp_path / "slides.csv")[0] == 0
    figures = json.loads((out / "evaluation.json").read_text())["models"][Path(__file__).name]["slides"]
    assert (sorted(figures["by_patient"]), figures["true_positives"]) == (["P 1", "P 2"], 7)
    # A slide that fails, an annotation that is damaged: the rest is scored, and the exit code tells that it is not all.
    monkeypatch.setattr(infer_wsi, "load_model", lambda path, device, backend: BlobDetector(path=Path(__file__)))
    (tmp_path / "truth" / "other.geojson").write_text("{")
    status, printed, err = run(capsys, tmp_path / "gone.svs", *arguments)
    assert status == 3
    assert "not evaluated: gone (its search failed)" in printed
    assert "failed: other: " in err
    assert json.loads((out / "evaluation.json").read_text())["left_out"].keys() == {"gone", "other"}


def test_a_search_on_ray_is_scored_as_one_in_this_process(capsys, slide, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setattr(infer_wsi, "load_model", load_blobs)  # which another process can import
    write_blob_slide(tmp_path / "other.svs", DISCS[:4])
    for name, discs in (("blobs", DISCS[:3]), ("other", DISCS)):
        write_annotations(tmp_path / f"{name}.geojson", discs)
    scored = []
    for engine in (["--workers", 0], ["--engine", "ray", "--workers", 1]):
        out = tmp_path / engine[0]
        arguments = [slide, tmp_path / "other.svs", "--output-dir", out, "--evaluate", tmp_path, "--formats", "csv"]
        status, printed, err = run(capsys, *arguments, *engine)
        assert (status, printed.splitlines()[0]) == (0, "2 slides done, 0 skipped, 0 failed"), err
        (model,) = json.loads((out / "evaluation.json").read_text())["models"].values()
        for entry in (model["slides"], *model["slides"]["by_slide"].values()):
            entry.pop("seconds_per_slide", None), entry.pop("seconds", None)
        scored.append(model)
    assert scored[0]["slides"]["num_objects"] == 3 + len(DISCS)
    assert scored[1] == scored[0]


def test_an_evaluation_under_neutral_names_tells_no_name(capsys, slide, tmp_path):
    secret = slide.rename(tmp_path / "Smith.svs")
    write_annotations(tmp_path / "Smith.geojson")
    broken = tmp_path / "Smith 2.svs"
    broken.write_bytes(b"no slide")
    (tmp_path / "slides.csv").write_text("slide,annotation,patient\nSmith.svs,Smith.geojson,Smith\n")
    out = tmp_path / "out"
    status, printed, _ = run(
        capsys, secret, broken, "--output-dir", out, "--anonymize", "--evaluate", tmp_path / "slides.csv"
    )
    assert status == 3
    assert "| F1 " in printed
    assert json.loads((out / "evaluation.json").read_text())["left_out"].popitem()[1] == "its search failed"
    assert not any(b"Smith" in path.read_bytes() for path in out.iterdir())


def test_annotations_that_cannot_be_meant_are_refused_before_any_work(capsys, slide, tmp_path, monkeypatch):
    monkeypatch.setattr(infer_wsi, "load_model", None)
    for reason, arguments in {
        "no such annotations": ["--evaluate", tmp_path / "none"],
        "no annotation for any of the 1 slides": ["--evaluate", tmp_path],
        "no readable class map": ["--evaluate", slide, "--class-map", tmp_path / "none.yaml"],
        "give --evaluate as well": ["--class-map", slide],
    }.items():
        status, _, err = run(capsys, slide, *arguments, "--output-dir", tmp_path / "out")
        assert (status, [line for line in err.splitlines() if not line.startswith("error: ")]) == (1, []), err
        assert reason in err
    assert not (tmp_path / "out").exists()

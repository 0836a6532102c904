from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from mhkd.inference import slide_runner
from preprocess.console import run_main
from tests.blobs import DISCS, BlobDetector, write_blob_slide
from tools import infer_wsi


@pytest.fixture
def slide(tmp_path):
    return write_blob_slide(tmp_path / "blobs.svs")


@pytest.fixture(autouse=True)
def blob_detector(monkeypatch):
    """The one part of the tool that is not real."""
    monkeypatch.setattr(infer_wsi, "load_detector", lambda path, device: BlobDetector(path=Path(__file__)))


def run(capsys, *arguments):
    """Exit status, standard output and standard error as a shell would see them."""
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: infer_wsi.main([*map(str, arguments), "--checkpoint", "model.pth"]))
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_a_slide_is_searched_and_the_end_says_what_was_found_and_where(capsys, slide, tmp_path):
    status, out, _ = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 0
    assert f"blobs: found {len(DISCS)} glomeruli" in out
    assert str(tmp_path / "out" / "blobs") in out
    summary = json.loads((tmp_path / "out" / "blobs.json").read_text())
    assert len(summary["model"]["sha256"]) == 64
    assert "versions" in summary["provenance"]


def test_a_bad_slide_does_not_stop_the_others(capsys, slide, tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"not a slide")
    missing = tmp_path / "missing.svs"
    status, out, err = run(capsys, missing, tmp_path / "broken.svs", slide, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "blobs: found" in out
    assert "missing.svs: no such slide" in err
    assert "broken.svs" in err
    assert err.rstrip().endswith("2 of 3 slides failed")
    assert "Traceback" not in err


def test_one_bad_slide_alone_is_an_error_in_one_line(capsys, tmp_path):
    status, out, err = run(capsys, tmp_path / "missing.svs", "--output-dir", tmp_path / "out")
    assert (status, out) == (1, "")
    assert [line for line in err.splitlines() if line.startswith("error:")] == [
        f"error: {tmp_path / 'missing.svs'}: no such slide (check the path)"
    ]
    assert not (tmp_path / "out").exists()


def test_a_slide_without_mpp_asks_for_it_and_takes_it(capsys, tmp_path):
    path = write_blob_slide(tmp_path / "blobs.svs", mpp=None)
    status, _, err = run(capsys, path, "--output-dir", tmp_path / "out")
    assert status == 1
    assert "--mpp" in err
    assert run(capsys, path, "--output-dir", tmp_path / "out", "--mpp", "0.5")[0] == 0


def test_nothing_found_is_no_error(capsys, tmp_path):
    status, out, _ = run(capsys, write_blob_slide(tmp_path / "a.svs", discs=()), "--output-dir", tmp_path)
    assert status == 0
    assert "found no glomerulus" in out


def test_a_full_disk_ends_the_run_at_once(capsys, slide, tmp_path, monkeypatch):
    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(slide_runner, "write_csv", full)
    other = write_blob_slide(tmp_path / "other.svs")
    status, _, err = run(capsys, slide, other, "--output-dir", tmp_path / "out")
    assert status == 1
    assert "no space left on the device" in err
    assert "other" not in {path.stem for path in (tmp_path / "out").iterdir()}


def test_ctrl_c_leaves_nothing_half_written(capsys, slide, tmp_path, monkeypatch):
    def interrupted(self, inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(BlobDetector, "model", interrupted)
    status, _, err = run(capsys, slide, "--output-dir", tmp_path / "out")
    assert status == 130
    assert "interrupted" in err
    assert not (tmp_path / "out").exists()


def test_two_slides_of_one_name_are_refused_before_any_work(capsys, slide, tmp_path):
    status, _, err = run(capsys, slide, tmp_path / "elsewhere" / "BLOBS.svs", "--output-dir", tmp_path / "out")
    assert status == 1
    assert "same name" in err


def test_without_any_model_the_way_to_one_is_told(capsys, slide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: infer_wsi.main([str(slide)]))
    assert exit_info.value.code == 1
    assert "make demo" in capsys.readouterr().err


def test_an_impossible_threshold_is_refused(capsys, slide):
    status, _, err = run(capsys, slide, "--score-thresh", "50")
    assert status == 1
    assert "give 0 to 1" in err

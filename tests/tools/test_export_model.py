from __future__ import annotations

from dataclasses import replace

import pytest

from mhkd.deploy.exported import load_exported
from preprocess.base.console import run_main
from tests.blobs import write_blob_slide
from tools import export_model


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        run_main(lambda: export_model.main([*map(str, arguments)]))
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_a_checkpoint_is_exported_and_agrees_with_its_file_on_tiles_of_a_slide(capsys, checkpoint, tmp_path):
    slide, path = write_blob_slide(tmp_path / "blobs.svs"), tmp_path / "out" / "student.torchscript"
    status, out, _ = run(capsys, checkpoint, path, "--score-thresh", "0.4", "--check", slide, "--tiles", "3")
    assert status == 0
    assert "detections agree within" in out
    assert "blobs: 0 detections" not in out
    assert load_exported(path).score_thresh == 0.4


def test_a_file_that_says_something_else_is_an_error(capsys, checkpoint, tmp_path, monkeypatch):
    """As one of other weights would."""
    loaded = export_model.load_exported

    def bent(path, backend):
        exported = loaded(path, backend=backend)

        def shifted(inputs):
            outputs = exported.model(inputs)
            for output in outputs:
                output["instances"].pred_boxes.tensor += 0.5
            return outputs

        return replace(exported, model=shifted)

    monkeypatch.setattr(export_model, "load_exported", bent)
    slide = write_blob_slide(tmp_path / "blobs.svs")
    assert run(capsys, checkpoint, tmp_path / "d.torchscript", "--check", slide, "--tiles", "1")[0] == 1


def test_what_cannot_work_is_refused(capsys, checkpoint, tmp_path):
    assert "name it with" in run(capsys, checkpoint, tmp_path / "d.pt")[2]
    assert "no number from 0 to 1" in run(capsys, checkpoint, tmp_path / "d.onnx", "--score-thresh", "2")[2]
    assert "no such model" in run(capsys, tmp_path / "none.pth", tmp_path / "d.onnx")[2]
    path = tmp_path / "d.torchscript"
    assert run(capsys, checkpoint, path)[0] == 0
    assert "already exported" in run(capsys, path, tmp_path / "again.torchscript")[2]

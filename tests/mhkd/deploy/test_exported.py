"""Exported detectors: the same detections, their card, and nothing run but their graph."""

from __future__ import annotations

import zipfile

import pytest
import torch

from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.export import export_graph
from mhkd.deploy.exported import load_exported
from preprocess.base.errors import UserError


@pytest.fixture(scope="module")
def torchscript(checkpoint, tmp_path_factory):
    return export_graph(load_detector(checkpoint), tmp_path_factory.mktemp("x") / "d.torchscript", score_thresh=0.3)


def assert_same(exported, detector, images):
    with torch.inference_mode():
        for image in images:
            expected, found = (d.model([{"image": image}])[0]["instances"] for d in (detector, exported))
            assert len(expected)
            torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=0.01, rtol=0)
            torch.testing.assert_close(found.scores, expected.scores, atol=1e-3, rtol=0)
            assert found.pred_classes.tolist() == expected.pred_classes.tolist()


def test_torchscript_finds_the_same_in_images_of_any_size(torchscript, detector, images):
    assert_same(load_exported(torchscript), detector, images)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_onnx_finds_the_same_in_images_of_any_size(backend, checkpoint, detector, images, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip(backend)
    path = export_graph(load_detector(checkpoint), tmp_path / "d.onnx")
    exported = load_exported(path, backend=backend)
    assert exported.class_names == detector.class_names
    if backend == "onnxruntime":
        assert_same(exported, detector, images)


def test_what_a_caller_must_know_is_in_the_file(torchscript, checkpoint, detector):
    exported = load_exported(torchscript)
    for name in ("input_mpp", "tile_px", "class_names"):
        assert getattr(exported, name) == getattr(detector, name)
    assert exported.score_thresh == 0.3
    assert exported.provenance["score_thresh_origin"] == "given when the model was exported"
    assert exported.provenance["source"]["file"] == checkpoint.name
    assert len(exported.provenance["source"]["sha256"]) == 64


def test_exporting_leaves_the_detector_as_it_was(checkpoint, images, tmp_path):
    detector = load_detector(checkpoint)
    export_graph(detector, tmp_path / "d.torchscript")
    assert not detector.model.training
    assert detector.model.precision == "auto"


@pytest.mark.parametrize("code", ["torch.save(x, 'f')", "def __setstate__(self): pass", "ops.image.write_file('f', x)"])
def test_a_graph_that_could_do_more_than_detect_is_refused(torchscript, tmp_path, code):
    path = tmp_path / "evil.torchscript"
    path.write_bytes(torchscript.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("d/code/evil.py", code)
    with pytest.raises(UserError, match="no detector needs"):
        load_exported(path)


@pytest.mark.parametrize("suffix", [".torchscript", ".onnx"])
def test_damaged_files_are_user_errors(suffix, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"d{suffix}"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a detector that mhkd exported"):
        load_exported(path)


def test_a_graph_without_a_card_is_refused(tmp_path):
    path = tmp_path / "other.torchscript"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
    with pytest.raises(UserError, match="not a detector that mhkd exported"):
        load_exported(path)


def test_backends_and_suffixes_that_do_not_fit_are_refused(torchscript, checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"does not run \.torchscript"):
        load_exported(torchscript, backend="openvino")
    with pytest.raises(UserError, match="cannot export"):
        export_graph(load_detector(checkpoint), tmp_path / "d.pt")
    assert not list(tmp_path.iterdir())

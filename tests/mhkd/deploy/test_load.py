from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mhkd.deploy import load
from mhkd.deploy.cpu.compiled import FrozenBackbone
from mhkd.deploy.cpu.operators import SWITCH
from mhkd.deploy.detector_file import load_detector, resolve_device
from mhkd.deploy.export import export_graph
from mhkd.deploy.load import MIN_SIDE_PX, TILE_FACTOR, check_model, load_model, widen_tiles
from preprocess.base.errors import UserError
from tests.detectors import write_detector


@pytest.fixture
def cpu_operators(monkeypatch):
    """The operators that make a CPU fast are on, whatever the switch says outside."""
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.mark.usefixtures("cpu_operators")
def test_a_checkpoint_becomes_frozen_graphs_on_the_cpu_and_stays_itself_on_request(checkpoint):
    fast, plain = load_model(checkpoint, device="cpu"), load_model(checkpoint, device="cpu", backend="eager")
    assert isinstance(fast.model.backbone, FrozenBackbone)
    assert not isinstance(plain.model.backbone, FrozenBackbone)
    assert fast.tile_px == plain.tile_px == TILE_FACTOR * 32
    assert (fast.computed_by.split(",")[0], plain.computed_by.split(",")[0]) == ("frozen graphs", "Detectron2")


def test_tiles_of_a_student_without_up_sampling_are_not_tiny(checkpoint, tmp_path):
    native = load_model(write_detector(tmp_path / "native.pth", "MODEL.MHKD.UPSAMPLE", 1), device="cpu")
    assert native.tile_px == MIN_SIDE_PX
    factor = MIN_SIDE_PX // 32
    usual = load_model(checkpoint, device="cpu").model.proposal_generator.post_nms_topk[False] // TILE_FACTOR
    assert native.model.proposal_generator.post_nms_topk[False] == factor * usual


def test_an_exported_file_is_told_by_its_suffix(checkpoint, tmp_path):
    path = export_graph(load_model(checkpoint, device="cpu", backend="eager"), tmp_path / "d.torchscript")
    exported = load_model(path, device="cpu")
    assert exported.tile_px == TILE_FACTOR * 32
    assert exported.computed_by == "torch, cpu, float32"


def test_what_does_not_fit_is_refused(checkpoint):
    with pytest.raises(UserError, match=r"does not run checkpoints.*mhkd export"):
        load_model(checkpoint, backend="onnxruntime")
    with pytest.raises(UserError, match="there is no backend 'magic'"):
        load_model(checkpoint, backend="magic")
    with pytest.raises(UserError, match="no such model"):
        load_model("no-such-model")


def test_a_wider_tile_may_hold_more():
    stages = nn.ModuleList([nn.Identity(), nn.Identity()])
    for stage in stages:
        stage.test_topk_per_image = 100
    rpn = SimpleNamespace(pre_nms_topk={True: 300, False: 200}, post_nms_topk={True: 150, False: 60})
    widen_tiles(SimpleNamespace(proposal_generator=rpn, roi_heads=SimpleNamespace(box_predictor=stages)), 4)
    assert rpn.pre_nms_topk == {True: 300, False: 3200}
    assert rpn.post_nms_topk == {True: 150, False: 240}
    assert [stage.test_topk_per_image for stage in stages] == [400, 400]
    one_stage = SimpleNamespace(test_topk_candidates=1000, max_detections_per_image=100)
    widen_tiles(one_stage, 4)
    assert (one_stage.test_topk_candidates, one_stage.max_detections_per_image) == (4000, 400)


@pytest.mark.usefixtures("cpu_operators")
def test_precision_can_be_chosen(checkpoint):
    assert load_model(checkpoint, device="cpu", precision="bfloat16").computed_by == "frozen graphs, cpu, bfloat16"
    detector = load_model(checkpoint, device="cpu", precision="float32")
    assert detector.computed_by == "frozen graphs, cpu, float32"
    exact = detector.model
    with torch.inference_mode():
        features = exact.backbone(torch.zeros(1, 3, 64, 64))
    assert {f.dtype for f in features.values()} == {torch.float32}


@pytest.mark.parametrize("config", ["demo/baseline_strict", "retinanet/baseline_strict", "fcos/baseline_strict"])
def test_the_switch_leaves_nothing_that_is_only_there_for_cpus(config, tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    monkeypatch.setattr(load, "prepare_heap", lambda: pytest.fail("the allocator of the C library is set"))
    path = write_detector(tmp_path / "detector.pth", config=config)
    for backend, way in (("torch", "folded Detectron2"), ("eager", "Detectron2")):
        detector = load_model(path, device="cpu", backend=backend, precision="bfloat16")
        rooms = {type(module).__module__ for module in detector.model.modules()}
        assert not [room for room in rooms if room.startswith("mhkd.deploy.cpu")]
        assert detector.computed_by == f"{way}, cpu, bfloat16"
        assert not detector.is_thread_safe


def test_what_computed_a_slide_does_not_say_which_of_several_gpus(checkpoint, monkeypatch):
    """Slides that workers searched on different GPUs were computed in one way."""
    monkeypatch.setattr(load, "load_detector", lambda path, device: load_detector(path, "cpu"))
    ways = {
        load_model(checkpoint, device=device, precision="float32").computed_by
        for device in ("cuda", "cuda:0", "cuda:1")
    }
    assert ways == {"folded Detectron2, cuda, float32"}


@pytest.mark.parametrize("name", ["m.pth", "m.onnx", "m.torchscript"])
@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 damaged", "of another program"])
def test_a_file_that_is_no_model_is_one_clear_line(tmp_path, name, content):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    path = tmp_path / name
    if isinstance(content, str):
        torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=name):
        check_model(path)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "cpu:1", "", "CUDA", "0"])
def test_a_device_that_is_not_there_is_one_clear_line(name):
    with pytest.raises(UserError, match="there is no device"):
        resolve_device(name)
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("cuda:99", here=False) == "cuda:99"

from __future__ import annotations

import json

import pytest
import torch

from mhkd.deploy import register
from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.register import read_card, register_model
from mhkd.deploy.registry import find_entry, find_model, read_registry
from mhkd.weights import read_checkpoint
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of

CARD = {"trained_on": "discs", "limits": {"stain": "none"}}


def test_a_registered_model_is_found_by_name_and_by_hash(checkpoint, tmp_path, monkeypatch):
    entry = register_model(checkpoint, tmp_path, "mine", CARD)
    monkeypatch.setenv("MHKD_MODELS", str(tmp_path))
    assert find_model("mine") == entry.path == tmp_path / "mine.pth"
    assert read_registry()["mine"].card == CARD
    assert find_entry(sha256_of(entry.path)).name == "mine"
    assert find_entry(sha256_of(checkpoint)) is None
    provenance = read_checkpoint(entry.path)["provenance"]
    assert provenance == {"seed": 0, "full_precision_sha256": sha256_of(checkpoint)}


def test_half_precision_halves_the_file_and_rounds_each_weight_once(checkpoint, tmp_path):
    entry = register_model(checkpoint, tmp_path, "mine", CARD)
    assert entry.path.stat().st_size < 0.6 * checkpoint.stat().st_size
    stored = read_checkpoint(entry.path)["model"]
    assert {value.dtype for value in stored.values() if value.ndim > 1} == {torch.float16}
    assert all(value.dtype != torch.float16 for value in stored.values() if value.ndim < 2)
    half, full = (load_detector(path).model.state_dict() for path in (entry.path, checkpoint))
    assert all(value.dtype == torch.float32 for value in half.values() if value.is_floating_point())
    for key, weights in full.items():
        assert torch.equal(half[key], weights.half().float() if weights.ndim > 1 else weights), key


def test_the_same_model_gives_the_same_bytes_and_others_keep_their_place(checkpoint, tmp_path):
    first = register_model(checkpoint, tmp_path, "one", CARD)
    assert register_model(checkpoint, tmp_path, "two", {}).sha256 == first.sha256
    assert set(json.loads((tmp_path / "registry.json").read_text())["models"]) == {"one", "two"}


def test_a_threshold_of_ones_own_goes_with_the_model(checkpoint, tmp_path):
    content = read_checkpoint(register_model(checkpoint, tmp_path, "mine", {}, score_thresh=0.7).path)
    assert content["score_thresh"] == 0.7
    assert "given its name" in content["provenance"]["score_thresh_origin"]
    with pytest.raises(UserError, match="not possible"):
        register_model(checkpoint, tmp_path, "mine", {}, score_thresh=7)


def test_a_value_beyond_half_precision_stays_in_full(checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    key = next(key for key, value in content["model"].items() if value.ndim == 4)
    content["model"][key].view(-1)[0] = 1e5
    torch.save(content, tmp_path / "large.pth")
    entry = register_model(tmp_path / "large.pth", tmp_path, "large", {})
    assert read_checkpoint(entry.path)["model"][key].view(-1)[0] == 1e5


def test_what_cannot_be_shipped_is_refused_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be the name"):
        register_model(checkpoint, tmp_path, "../mine", {})
    monkeypatch.setattr(register, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="too many to ship"):
        register_model(checkpoint, tmp_path, "mine", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["[]", "{", None])
def test_a_card_is_a_json_object(tmp_path, text):
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    with pytest.raises(UserError, match="card"):
        read_card(tmp_path / "card.json")

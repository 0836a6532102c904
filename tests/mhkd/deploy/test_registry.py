from __future__ import annotations

import json

import pytest

from mhkd.deploy.registry import find_model, read_registry
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of


@pytest.fixture
def table(tmp_path, monkeypatch):
    (tmp_path / "student.pth").write_bytes(b"weights")
    row = {"file": "student.pth", "sha256": sha256_of(tmp_path / "student.pth"), "card": {"trained_on": "demo"}}
    (tmp_path / "registry.json").write_text(json.dumps({"models": {"small-student": row}}))
    monkeypatch.setenv("MHKD_MODELS", str(tmp_path))
    return tmp_path


def test_a_name_leads_to_its_file_and_a_path_to_itself(table):
    assert find_model("small-student") == table / "student.pth"
    assert find_model(table / "registry.json") == table / "registry.json"
    assert read_registry()["small-student"].card == {"trained_on": "demo"}


def test_an_unknown_name_is_told_the_known_ones(table):
    with pytest.raises(UserError, match=r"no such model.*small-student"):
        find_model("big-student")


def test_a_file_that_is_missing_or_another_is_refused(table):
    (table / "student.pth").write_bytes(b"other weights")
    with pytest.raises(UserError, match="SHA-256 differs"):
        find_model("small-student")
    (table / "student.pth").unlink()
    with pytest.raises(UserError, match="is missing"):
        find_model("small-student")


@pytest.mark.parametrize("text", ["{", "[]", '{"models": {"a": {"file": "x"}}}', '{"models": 3}'])
def test_a_broken_table_is_a_user_error(table, text):
    (table / "registry.json").write_text(text)
    with pytest.raises(UserError, match="not a table of models"):
        read_registry()


def test_no_table_where_the_variable_points_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MHKD_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="MHKD_MODELS"):
        read_registry()

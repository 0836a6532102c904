from __future__ import annotations

import subprocess
from pathlib import Path

from preprocess.base import provenance


def test_versions_are_texts_without_paths():
    software = provenance.software()
    assert all(isinstance(value, str) and "/" not in value for value in software["versions"].values())
    assert software["git_commit"] is None or len(software["git_commit"]) == 40


def test_the_commit_of_another_repository_is_not_ours(monkeypatch):
    def other(command, **_):
        text = "/elsewhere" if "--show-toplevel" in command else "0" * 40
        return subprocess.CompletedProcess(command, 0, stdout=text + "\n")

    monkeypatch.setattr(provenance.subprocess, "run", other)
    assert provenance.git_commit() is None


def test_no_git_is_no_error(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance.subprocess, "run", missing)
    assert provenance.git_commit() is None


def test_the_commit_of_our_own_repository_is_found(monkeypatch):
    root = Path(__file__).parents[3]

    def ours(command, **_):
        text = str(root) if "--show-toplevel" in command else "0" * 40
        return subprocess.CompletedProcess(command, 0, stdout=text + "\n")

    monkeypatch.setattr(provenance.subprocess, "run", ours)
    assert provenance.git_commit() == "0" * 40

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from preprocess.base.errors import UserError
from tests.results import write_results
from tools import view

REPOSITORY = Path(__file__).parents[2]


def test_it_serves_until_ctrl_c_and_ends_well(tmp_path, svs_slide):
    write_results(tmp_path, svs_slide)
    command = [sys.executable, "tools/view.py", str(tmp_path), str(svs_slide), "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        # A shell's background jobs, these tests perhaps, ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        first = process.stdout.readline()
        assert first.startswith("1 slides at http://localhost:")
        with urllib.request.urlopen(first.split()[3] + "slides/0.json", timeout=30) as response:
            assert b'"discs.svs"' in response.read()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_results_without_their_slides_are_noted(tmp_path, svs_slide, monkeypatch, capsys):
    write_results(tmp_path, svs_slide)
    monkeypatch.setattr(view, "serve", lambda server: server.server_close())
    opened = []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    assert view.main([str(tmp_path), "--port", "0"]) == 0
    assert "the slides of 1 of 1 results are not given" in capsys.readouterr().err
    assert opened[0].startswith("http://localhost:")


def test_the_network_is_only_asked_for_on_purpose(tmp_path, svs_slide, monkeypatch, capsys):
    write_results(tmp_path, svs_slide)
    monkeypatch.setattr(view, "serve", lambda server: server.server_close())
    assert view.main([str(tmp_path), str(svs_slide), "--port", "0", "--host", "0.0.0.0", "--no-browser"]) == 0
    assert "whoever reaches 0.0.0.0" in capsys.readouterr().err


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match="no results of a search"):
        view.main([str(tmp_path)])

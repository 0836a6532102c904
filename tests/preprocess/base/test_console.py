from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from preprocess.base.console import command_parser, note, progress, report

PROGRAM = """
import os, sys, time
from pathlib import Path
from preprocess.base.console import note, run_main

def lines():
    for number in range(100000):
        print(number)

def notes():
    for number in range(100000):
        note(str(number))

def names():
    print("sch\\udce4del")
    note("new\\nline")

def descriptors():
    note("a note")
    print("a line")
    with open("file", "w") as stream:
        os.write(2, b"of a library")
        print(stream.fileno() > 2, file=stream)

def writes():
    from preprocess.base.files import atomic_path

    with atomic_path("result") as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

def asks():
    import argparse
    argparse.ArgumentParser(description="word " * 50000).parse_args(["--help"])

run_main(globals()[sys.argv[1]])
"""


@pytest.fixture
def program(tmp_path):
    """The start of a shell's command that runs a function of ``PROGRAM`` in ``tmp_path``."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return f"set -o pipefail; cd {tmp_path}; PYTHONPATH={os.pathsep.join(sys.path)} {sys.executable} program.py"


def shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


def test_plain_lines_where_there_is_no_terminal(capfd):
    with progress((), total=2, description="cutting", unit="slide") as bar:
        bar.update()
        bar.update()
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("cutting: 0 of 2 slides")
    assert lines[-1].startswith("cutting: 2 of 2 slides")
    assert not any("\r" in line or "\x1b" in line or "%" in line for line in lines)


def test_what_has_no_known_end_promises_none(capfd):
    assert list(progress(iter("ab"), description="training")) == ["a", "b"]
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("training: 2 its, ")
    assert not any("to go" in line or " of " in line for line in lines)


def test_a_bar_inside_a_bar_sends_no_cursor_moves(capfd):
    with progress((), total=1, description="slides", unit="slide") as outer:
        with progress((), total=1, description="one.svs", unit="tile") as inner:
            inner.update()
        outer.update()
    err = capfd.readouterr().err
    assert "one.svs: 1 of 1 tiles" in err
    assert "\x1b" not in err
    assert all(line.strip() for line in err.splitlines())


def test_notes_go_to_standard_error(capfd):
    note("read in place")
    assert capfd.readouterr() == ("", "note: read in place\n")


@pytest.mark.parametrize(
    ("failures", "total", "code"), [([], 0, 0), ([], 2, 0), (["a: bad"], 2, 3), (["a: bad", "b: bad"], 2, 1)]
)
def test_the_exit_code_says_whether_all_went_well(failures, total, code, capfd):
    assert report(["done"], failures, total) == code
    printed = capfd.readouterr()
    assert printed.out == "  done\n"
    assert printed.err.splitlines() == [f"failed: {failure}" for failure in failures]


def test_lines_before_and_after_the_results_are_not_indented(capfd):
    report(["done"], [], 1, head="1 item", tail="all in all")
    assert capfd.readouterr().out == "1 item\n  done\nall in all\n"


@pytest.mark.parametrize("command", ["lines | head -1", "notes 2>&1 | head -1", "asks | true"])
def test_a_reader_that_goes_away_ends_the_program_without_a_word(program, command):
    done = shell(f"{program} {command}")
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_a_closed_stream_goes_nowhere(program, closed, tmp_path):
    done = shell(f"{program} descriptors {closed}")
    assert done.returncode == 0
    assert "a line" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "True\n"


def test_a_full_disk_behind_standard_output_is_one_line(program):
    done = shell(f"{program} lines > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no space left on the device" in done.stderr


def test_names_that_cannot_be_printed_are_printed_as_escapes(program):
    done = shell(f"LC_ALL=C.UTF-8 {program} names")
    assert (done.returncode, done.stdout, done.stderr) == (0, "sch\\udce4del\n", "note: new\\nline\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_program_with_nothing_half_written(program, number, tmp_path):
    command = f"{program} writes".replace(f" {sys.executable}", f" exec {sys.executable}")
    process = subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell inherits "ignore Ctrl-C".
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"default": 0}, "(default: 0)"),
        ({"default": ("csv", "geojson")}, "(default: csv geojson)"),
        ({"default": "50%"}, "(default: 50%)"),
        ({"default": None}, ""),
        ({"default": []}, ""),
        ({"default": ""}, ""),
        ({"action": "store_true"}, ""),
        ({"default": 1, "help": "text (default: all)"}, "(default: all)"),
    ],
)
def test_help_shows_each_default_once(options, shown):
    parser = command_parser("Description.", "Examples:\n  mhkd infer")
    parser.add_argument("--option", **{"help": "text", **options})
    help_ = " ".join(parser.format_help().split())
    assert f"text {shown} Examples: mhkd infer".replace("  ", " ") in help_
    assert help_.count("(default") == bool(shown)


@pytest.mark.parametrize(
    ("started", "program"),
    [("mhkd infer", "mhkd infer"), ("tools/infer_wsi.py", "tools/infer_wsi.py"), ("/a/b/tools/x.py", "tools/x.py")],
)
def test_a_command_is_called_as_it_was_started(started, program, monkeypatch):
    monkeypatch.setattr("sys.argv", [started])
    assert command_parser("", "").prog == program

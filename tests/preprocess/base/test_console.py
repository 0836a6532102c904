from __future__ import annotations

import pytest

from preprocess.base.console import note, progress, report


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

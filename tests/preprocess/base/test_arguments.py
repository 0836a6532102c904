from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from preprocess.base.arguments import count, mpp, number, positive, seed, share, whole_number

ROOT = Path(__file__).parents[3]
TOOLS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "tools").glob("**/*.py"))
    if "def build_parser" in path.read_text()
]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (count, ["0", "8"], ["-1", "1.5", "", "all", "1e9", "9" * 30]),
        (positive, ["1"], ["0", "-1", "nan"]),
        (seed, ["0", str(2**32 - 1)], ["-1", str(2**32), "1.0"]),
        (share, ["0", "1", "0,5"], ["-0.1", "1.01", "nan", "inf", "50"]),
        (mpp, ["0.25", "0,25", "8"], ["-1", "0", "nan", "inf", "-inf", "1e9", "40x"]),
        (whole_number(0, 65535), ["0", "65535"], ["65536"]),
        (number(0.5, 2), ["0.5"], ["0.4"]),
    ],
)
def test_numbers_have_a_range(kind, good, bad):
    assert [kind(text) for text in good] == [float(text.replace(",", ".")) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="is no "):
            kind(text)


@pytest.mark.parametrize("tool", TOOLS)
def test_no_option_of_any_command_takes_a_number_of_any_size(tool):
    actions = importlib.import_module(tool).build_parser()._actions
    assert not [action.dest for action in actions if action.type in (int, float)]

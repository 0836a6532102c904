from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tools.dev import fuzz_inputs

REPOSITORY = Path(__file__).parents[3]


def test_damaged_files_of_every_format_are_refused_or_read():
    command = [sys.executable, "-m", "tools.dev.fuzz_inputs", "--cases", "3", "--seed", "11"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    formats = done.stdout.splitlines()[1:-1]
    assert len(formats) > 25
    assert done.stdout.splitlines()[-1].split()[:2] == ["all", str(3 * len(formats))]


def test_a_single_wrong_case_fails_the_run(capsys):
    counts = {"asap": Counter(read=3, refused=2), "halo": Counter(read=4, hang=1)}
    assert fuzz_inputs.report(counts) == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "10", "7", "2", "0", "0", "1", "0"]
    assert fuzz_inputs.report({"asap": counts["asap"]}) == 0

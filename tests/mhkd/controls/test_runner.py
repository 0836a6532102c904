from __future__ import annotations

import json

import pytest

from mhkd.controls.runner import seconds_per_iteration


def write_log(folder, iterations: int, seconds: list[float]) -> None:
    folder.mkdir()
    step = iterations // len(seconds)
    lines = [json.dumps({"iteration": step * (i + 1) - 1, "time": time}) for i, time in enumerate(seconds)]
    (folder / "metrics.json").write_text("\n".join([*lines, json.dumps({"iteration": iterations})]) + "\n")


def test_seconds_are_medians_of_the_phases_weighted_by_their_iterations(tmp_path):
    assert seconds_per_iteration(tmp_path) is None
    write_log(tmp_path / "basic", 60, [9.0, 0.2, 0.2])
    write_log(tmp_path / "local", 20, [0.6])
    assert seconds_per_iteration(tmp_path) == pytest.approx((60 * 0.2 + 20 * 0.6) / 80)

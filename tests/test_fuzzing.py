from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from preprocess.base.errors import UserError
from tests.fuzzing import GIB, all_seeds, check_annotations, mutate, read_apart


def refuse(path):
    raise UserError("no good", path=path)


def fill_memory(path):
    assert len(b"\1" * (GIB // 2)) == GIB // 2


@pytest.mark.parametrize(
    ("check", "outcome", "reason"),
    [
        (lambda path: None, "read", ""),
        (refuse, "refused", "file: no good"),
        (lambda path: [][1], "traceback", "IndexError: list index out of range"),
        (lambda path: os.abort(), "crash", "status 6"),
        (lambda path: time.sleep(60), "hang", "after 0.2 s"),
        (lambda path: sum(iter(int, 1)), "hang", "after 0.2 s"),
        (lambda path: bytearray(3 * GIB), "memory", "MemoryError()"),
        (fill_memory, "memory", " MiB; "),
    ],
    ids=["read", "refused", "traceback", "crash", "asleep", "endless", "refused memory", "memory used"],
)
def test_what_becomes_of_a_case(check, outcome, reason):
    found = read_apart(check, Path("file"), seconds=0.2 if outcome == "hang" else 20, memory=GIB)
    assert found[0] == outcome
    assert reason in found[1]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return all_seeds(tmp_path_factory.mktemp("seeds"))


def test_sound_files_are_read_and_damage_is_the_same_every_time(seeds, tmp_path):
    assert len(seeds) == 27
    for name, (data, check) in seeds.items():
        path = tmp_path / f"slide.{name.rpartition('-')[2]}"
        path.write_bytes(data)
        check(path)
        damaged, again = ([mutate(data, random.Random(f"{name}:{n}")) for n in range(5)] for _ in range(2))
        assert damaged == again
        assert len({*damaged, data}) > 3


def test_a_wrong_result_is_not_right(tmp_path, monkeypatch):
    path = tmp_path / "annotations.json"
    path.write_text("[]")
    monkeypatch.setattr("tests.fuzzing.read_annotations", lambda *_: [object()])
    with pytest.raises(AttributeError):
        check_annotations(path)

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from mhkd.engine.hooks import LossBalance, ShowProgress


def run(hook: LossBalance, kd: float, iterations: int, max_iter: int = 100) -> EventStorage:
    with EventStorage(0) as storage:
        for iteration in range(iterations):
            storage.iter = iteration
            hook.trainer = SimpleNamespace(iter=iteration, max_iter=max_iter, storage=storage)
            storage.put_scalars(loss_cls=1.5, loss_rpn_loc=0.5, loss_teacher_cls=7.0, loss_kd_local=kd, data_time=3.0)
            hook.after_step()
    return storage


def test_the_ratio_is_to_the_task_of_the_student() -> None:
    storage = run(LossBalance(10.0), 6.0, 1)
    assert storage.latest()["kd_ratio/local"] == (3.0, 0)
    assert not any("teacher" in name for name in storage.latest() if name.startswith("kd_ratio"))


def test_a_loss_that_drowns_the_task_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mhkd.engine.hooks"):
        run(LossBalance(10.0), 19.0, 60)
        run(LossBalance(10.0), 50.0, 19)  # too early to tell
        assert caplog.messages == []
        run(LossBalance(10.0), 50.0, 60)
    assert len(caplog.messages) == 1
    assert "loss_kd_local is 25.0 times the task loss" in caplog.messages[0]


def test_a_training_shows_one_line_now_and_then_and_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    hook = ShowProgress("training teacher")
    hook.trainer = SimpleNamespace(start_iter=100, max_iter=400)
    hook.before_train()
    for _ in range(300):
        hook.after_step()
    hook.after_train()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training teacher: 100 of 400 iterations, ")
    assert lines[-1].startswith("training teacher: 400 of 400 iterations, ")
    assert len(lines) == 2

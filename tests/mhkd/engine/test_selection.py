from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mhkd.engine.selection import BEST_FILE, BestOnValidation
from mhkd.weights import read_checkpoint


def run(hook: BestOnValidation, model: nn.Linear, iterations: range) -> None:
    hook.trainer = SimpleNamespace(iter=0, start_iter=iterations.start, max_iter=5, storage=EventStorage(0))
    hook.before_train()
    for hook.trainer.iter in iterations:
        nn.init.constant_(model.weight, hook.trainer.iter)
        hook.after_step()


def test_the_best_is_kept_across_a_stop(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    score = {0: 5.0, 1: 9.0, 2: 7.0, 3: 8.0, 4: None}
    asked: list[tuple[float, bool]] = []

    def score_of(detector: nn.Module) -> float | None:
        asked.append((model.weight.item(), detector.training))
        return score[int(model.weight.item())]

    def hook() -> BestOnValidation:
        return BestOnValidation(lambda: model, score_of, str(tmp_path), 1, {5})

    run(hook(), model.train(), range(0, 3))
    run(hook(), model, range(2, 5))
    kept = read_checkpoint(tmp_path / BEST_FILE)
    assert (kept["AP"], kept["iteration"], kept["model"]["weight"].item()) == (9.0, 2, 1.0)
    assert [weight for weight, _ in asked] == [0, 1, 2, 2, 3, 4]
    assert not any(training for _, training in asked)
    assert model.training


def test_it_scores_at_its_period_and_at_the_end(tmp_path: Path) -> None:
    asked: list[float] = []
    model = nn.Linear(1, 1)
    hook = BestOnValidation(lambda: model, lambda _: asked.append(model.weight.item()) or 1.0, str(tmp_path), 2, {5})
    run(hook, model, range(0, 5))
    assert asked == [1, 3, 4]
    assert torch.load(tmp_path / BEST_FILE, weights_only=True)["iteration"] == 2

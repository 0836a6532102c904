"""The phases of a training run as data: what each of them distils and trains, and how much a loss weighs when.

A run is one optimiser, one schedule and one stream of data from its first iteration to its last. A phase changes the
weights of losses and what is trainable, nothing else. Everything here follows from the configuration and the iteration,
so that a resumed run is the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detectron2.config import CfgNode

from preprocess.base.errors import UserError

PHASE_KEYS = (
    "MODEL.MHKD.LOSS_WEIGHTS.",
    "MODEL.MHKD.BFA.ENABLED",
    "MODEL.MHKD.TEACHER.TRAINABLE",
    "MODEL.MHKD.FROZEN",
)
"""The configuration keys that a phase may set; one that ends in a dot stands for all below it."""


@dataclass(frozen=True)
class Phase:
    """Iterations ``start`` to ``stop`` - 1 of a run.

    step: of which training step (``make train-step1`` and so on) it is a part; 0 for none. weights: by the lower-case
    names of MODEL.MHKD.LOSS_WEIGHTS. warmup_iters: over how many iterations a loss that begins here grows to its
    weight. bfa: whether the student's BFA is in use. teacher_parts: MODEL.MHKD.TEACHER.TRAINABLE. frozen: prefixes of
    the student's parameters that are not trained.
    """

    name: str
    step: int
    start: int
    stop: int
    warmup_iters: int
    weights: Mapping[str, float]
    bfa: bool
    teacher_parts: tuple[str, ...]
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class PhaseSchedule:
    """The phases of a run, one after another without a gap."""

    phases: tuple[Phase, ...]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PhaseSchedule:
        """The phases of ``cfg.MODEL.MHKD.PHASES``; a single one, called "train", where the list is empty.

        Each gets its SHARE of SOLVER.MAX_ITER; shares are relative to each other. In force are those of its LOSSES
        that have a weight, all of them where it names none.

        Raises:
            UserError: a phase without a NAME of its own or without iterations, a key that a phase cannot set, steps
                that are not in order.
        """
        entries: list[dict[str, Any]] = cfg.MODEL.MHKD.PHASES or [{"NAME": "train"}]
        names = [entry.get("NAME") for entry in entries]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"MODEL.MHKD.PHASES need distinct NAMEs, found {names}")
        lengths = _split_evenly(cfg.SOLVER.MAX_ITER, [float(entry.get("SHARE", 1)) for entry in entries])
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        phases = tuple(_build_phase(cfg, *part) for part in zip(entries, starts, lengths, strict=True))
        steps = [phase.step for phase in phases]
        if steps != sorted(steps):
            raise UserError(f"the phases are of the steps {steps}", remedy="give MODEL.MHKD.PHASES in order of STEP")
        return cls(phases)

    def at(self, iteration: int) -> Phase:
        """The phase that ``iteration`` is in; the last one after the end of the run."""
        return next((phase for phase in self.phases if iteration < phase.stop), self.phases[-1])

    def weights_at(self, iteration: int) -> dict[str, float]:
        """The weight in force of each loss: one that begins in a phase grows linearly over that phase's warm-up."""
        weights = dict(self.at(iteration).weights)
        for name, weight in weights.items():
            if weight:
                begin = self._beginning(name, iteration)
                weights[name] = weight * min(1.0, (iteration - begin.start + 1) / (begin.warmup_iters + 1))
        return weights

    def _beginning(self, loss: str, iteration: int) -> Phase:
        """The phase in which ``loss`` began to have a weight, and from which on it has had one."""
        index = self.phases.index(self.at(iteration))
        while index and self.phases[index - 1].weights[loss]:
            index -= 1
        return self.phases[index]

    @cached_property
    def weights(self) -> dict[str, float]:
        """The largest weight that each loss ever has: 0 for one that is never computed."""
        return {name: max(phase.weights[name] for phase in self.phases) for name in self.phases[0].weights}

    @property
    def has_bfa(self) -> bool:
        """Whether a phase uses the BFA."""
        return any(phase.bfa for phase in self.phases)

    @property
    def teacher_parts(self) -> tuple[str, ...]:
        """The parts of the teacher that learn in any phase."""
        return tuple(dict.fromkeys(part for phase in self.phases for part in phase.teacher_parts))

    @property
    def steps(self) -> dict[int, Phase]:
        """The last phase of each training step, by the step's number."""
        return {phase.step: phase for phase in self.phases if phase.step}


def _build_phase(cfg: CfgNode, entry: Mapping[str, Any], start: int, length: int) -> Phase:
    name = entry["NAME"]
    if length < 1:
        raise UserError(f"phase {name} has no iterations", remedy="raise SOLVER.MAX_ITER or the phase's SHARE")
    own = cfg.clone()
    own.defrost()
    weights = own.MODEL.MHKD.LOSS_WEIGHTS
    if unknown := [loss for loss in entry.get("LOSSES", []) if loss not in weights]:
        raise UserError(f"phase {name}: no loss is called {unknown[0]}", remedy=f"there are {', '.join(weights)}")
    for loss in weights:
        if loss not in entry.get("LOSSES", weights):
            weights[loss] = 0.0
    for key, value in entry.items():
        if key in {"NAME", "SHARE", "STEP", "LOSSES"}:
            continue
        if not key.startswith(PHASE_KEYS):
            raise UserError(
                f"phase {name}: {key} cannot change within a run",
                remedy=f"set it for the whole run; a phase may set {', '.join(PHASE_KEYS)}",
            )
        try:
            own.merge_from_list([key, value])
        except (KeyError, AssertionError, ValueError) as error:
            raise UserError(f"phase {name}: cannot set {key}: {error}", remedy="see mhkd/config.py for keys") from None
    settings = own.MODEL.MHKD
    return Phase(
        name=name,
        step=int(entry.get("STEP", 0)),
        start=start,
        stop=start + length,
        warmup_iters=round(cfg.SOLVER.WARMUP_SHARE * length),
        weights={loss.lower(): float(weight) for loss, weight in settings.LOSS_WEIGHTS.items()},
        bfa=settings.BFA.ENABLED,
        teacher_parts=tuple(settings.TEACHER.TRAINABLE),
        frozen=tuple(settings.FROZEN),
    )


def _split_evenly(total: int, shares: list[float]) -> list[int]:
    """Integers in proportion to ``shares`` that add up to ``total``."""
    ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]

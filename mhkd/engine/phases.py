"""A training step as data: its phases, each a complete configuration."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from preprocess.base.errors import UserError


def phase_configs(cfg: CfgNode) -> list[CfgNode]:
    """One configuration per phase of ``cfg.MODEL.MHKD.PHASES`` (one phase where the list is empty).

    Each phase gets its share of SOLVER.MAX_ITER and its own output folder. Shares are relative to each other. Decay
    and warm-up are in proportion to its length or, where SOLVER.SCHEDULE_LENGTH is set, the part of that one schedule
    which falls to it.

    Raises:
        UserError: a phase without NAME, with an unknown key, with no iterations, or after the end of the schedule.
    """
    phases = cfg.MODEL.MHKD.PHASES or [{"NAME": "train"}]
    shares = [float(phase.get("SHARE", 1)) for phase in phases]
    names = [phase.get("NAME") for phase in phases]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"MODEL.MHKD.PHASES need distinct NAMEs, found {names}")
    lengths = _split_evenly(cfg.SOLVER.MAX_ITER, shares)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return [_phase_config(cfg, *part) for part in zip(phases, starts, lengths, strict=True)]


def _phase_config(cfg: CfgNode, phase: dict, start: int, length: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    name = phase["NAME"]
    for key, value in phase.items():
        if key in {"NAME", "SHARE"}:
            continue
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, AssertionError, ValueError) as error:
            raise UserError(f"phase {name}: cannot set {key}: {error}", remedy="see mhkd/config.py for keys") from None
    if length < 1:
        raise UserError(f"phase {name} has no iterations", remedy="raise SOLVER.MAX_ITER or the phase's SHARE")
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / name)
    _set_schedule(cfg, start, length)
    cfg.MODEL.MHKD.PHASES = []
    cfg.freeze()
    return cfg


def _set_schedule(cfg: CfgNode, start: int, length: int) -> None:
    """Detectron2's schedule keys for the ``length`` iterations of a step from its iteration ``start`` on."""
    solver = cfg.SOLVER
    whole, start = (solver.SCHEDULE_LENGTH, solver.SCHEDULE_START + start) if solver.SCHEDULE_LENGTH else (length, 0)
    if start + length > whole:
        raise UserError(
            f"iterations {start} to {start + length} of a schedule of {whole}",
            remedy="raise SOLVER.SCHEDULE_LENGTH, or lower SOLVER.SCHEDULE_START or SOLVER.MAX_ITER",
        )
    decays = [round(share * whole) - start for share in solver.DECAY_AT]
    solver.MAX_ITER = length
    solver.BASE_LR *= solver.GAMMA ** sum(at <= 0 for at in decays)
    solver.STEPS = tuple(sorted(set(decays) & set(range(1, length))))
    solver.WARMUP_ITERS = min(length, max(0, round(solver.WARMUP_SHARE * whole) - start))


def _split_evenly(total: int, shares: list[float]) -> list[int]:
    """Integers in proportion to ``shares`` that add up to ``total``."""
    ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]

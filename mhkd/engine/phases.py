"""A training step as data: its phases, each a complete configuration."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from preprocess.errors import UserError


def phase_configs(cfg: CfgNode) -> list[CfgNode]:
    """One configuration per phase of ``cfg.MODEL.MHKD.PHASES`` (one phase where the list is empty).

    Each phase gets its share of SOLVER.MAX_ITER, its own output folder, and decay and warm-up in proportion
    to its length. Shares are relative to each other.

    Raises:
        UserError: a phase without NAME, with an unknown key, or with no iterations.
    """
    phases = cfg.MODEL.MHKD.PHASES or [{"NAME": "train"}]
    shares = [float(phase.get("SHARE", 1)) for phase in phases]
    names = [phase.get("NAME") for phase in phases]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"MODEL.MHKD.PHASES need distinct NAMEs, found {names}")
    lengths = _split_evenly(cfg.SOLVER.MAX_ITER, shares)
    return [_phase_config(cfg, phase, length) for phase, length in zip(phases, lengths, strict=True)]


def _phase_config(cfg: CfgNode, phase: dict, length: int) -> CfgNode:
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
    cfg.SOLVER.MAX_ITER = length
    cfg.SOLVER.STEPS = tuple(sorted({round(share * length) for share in cfg.SOLVER.DECAY_AT} & set(range(1, length))))
    cfg.SOLVER.WARMUP_ITERS = round(cfg.SOLVER.WARMUP_SHARE * length)
    cfg.MODEL.MHKD.PHASES = []
    cfg.freeze()
    return cfg


def _split_evenly(total: int, shares: list[float]) -> list[int]:
    """Integers in proportion to ``shares`` that add up to ``total``."""
    ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]

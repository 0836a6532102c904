"""The detector that a run leaves behind: after each training step, and at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from mhkd.config import Phase, PhaseSchedule
from mhkd.engine.checkpoint import BEST_FILE, export_detector
from mhkd.engine.threshold import best_thresh
from mhkd.provenance import software
from mhkd.weights import load_strictly, read_checkpoint
from preprocess.tiles.manifest import Manifest

DETECTOR_FILE = "detector.pth"


class StudentExporter:
    """Writes detectors of one run into its folder: ``step1/detector.pth`` and so on, at the end ``detector.pth``."""

    def __init__(self, cfg: CfgNode, manifest: Manifest, run: dict[str, Any]) -> None:
        """
        Args:
            cfg: that of the run.
            run: what the run is made of, for the provenance: :func:`mhkd.engine.run_record.describe_run`.
        """
        self.cfg = cfg
        self.manifest = manifest
        self.run = run
        self.schedule = PhaseSchedule.from_config(cfg)

    def paths(self, phase: Phase) -> list[Path]:
        """The files that the end of ``phase`` leaves: none, unless a training step or the run ends with it."""
        folder = Path(self.cfg.OUTPUT_DIR)
        found = [folder / f"step{phase.step}" / DETECTOR_FILE] if phase in self.schedule.steps.values() else []
        return [*found, folder / DETECTOR_FILE] if phase == self.schedule.phases[-1] else found

    def __call__(self, detector: nn.Module, phase: Phase) -> None:
        """Export ``detector`` as it is at the end of ``phase``, or the best so far with MODEL.MHKD.SELECT "best"."""
        paths = self.paths(phase)
        if not paths:
            return
        cfg, iterations, used = self.cfg.clone(), phase.stop, phase
        in_use, current = detector.uses_bfa, None
        if cfg.MODEL.MHKD.SELECT == "best":
            current = {key: value.clone() for key, value in detector.state_dict().items()}
            best = read_checkpoint(Path(cfg.OUTPUT_DIR) / BEST_FILE)
            load_strictly(detector, best["model"], BEST_FILE)
            iterations = best["iteration"]
            used = self.schedule.at(iterations - 1)
        detector.uses_bfa = used.bfa  # type: ignore[assignment]
        cfg.defrost()
        cfg.MODEL.MHKD.BFA.ENABLED = used.bfa
        traits = detector_traits(cfg, self.manifest)
        thresh = best_thresh(detector, cfg, self.manifest, traits)
        provenance = {**software(), "inputs": self.run["files"], "seed": cfg.SEED, "iterations": iterations}
        provenance |= {"num_processes": self.run["num_processes"], "precision": self.run["precision"]}
        if thresh is not None:
            provenance["score_thresh_origin"] = "best F1 on the validation tiles"
        for path in paths:
            export_detector(path, detector, cfg, **traits, provenance=provenance, score_thresh=thresh)
        if current is not None:
            detector.load_state_dict(current)
        detector.uses_bfa = in_use


def detector_traits(cfg: CfgNode, manifest: Manifest) -> dict[str, Any]:
    """What a caller must know to feed the detector that ``cfg`` trains: input_mpp, tile_px and class_names."""
    side = "teacher" if cfg.MODEL.META_ARCHITECTURE != "MHKD" and cfg.INPUT.SIDE == "teacher" else "student"
    return {
        "input_mpp": getattr(manifest, f"{side}_mpp"),
        "tile_px": int(manifest.tiles[f"{side}_width"].iloc[0]),
        "class_names": tuple(manifest.labels),
    }

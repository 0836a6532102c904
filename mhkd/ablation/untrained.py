"""The teacher as somebody would use it who has low magnification and has trained nothing on it."""

from __future__ import annotations

from pathlib import Path

from mhkd.deploy.detector_file import load_detector
from mhkd.engine.checkpoint import export_detector
from mhkd.provenance import software
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.tiles.manifest import Manifest


def export_untrained(teacher: Path, path: Path, manifest: Manifest, upsample: int) -> None:
    """Write the detector ``teacher`` to ``path`` with an input of the student's um/px that it up-samples itself.

    Not one weight is another. A file that is there already stays as it is, unless it was made of another teacher or for
    other tiles. Raises UserError where ``teacher`` up-samples already: it is no high-resolution teacher then.
    """
    weights, tile_px = sha256_of(teacher), int(manifest.tiles["student_width"].iloc[0])
    if path.is_file():
        before = load_detector(path)
        made = before.provenance["inputs"], before.cfg.MODEL.MHKD.UPSAMPLE, before.input_mpp, before.tile_px
        if made == ({"weights": weights}, upsample, manifest.student_mpp, tile_px):
            return
    detector = load_detector(teacher)
    cfg = detector.cfg.clone()
    cfg.defrost()
    if cfg.MODEL.MHKD.UPSAMPLE != 1:
        raise UserError("up-samples its input, which a teacher does not", path=teacher)
    cfg.MODEL.MHKD.UPSAMPLE = upsample
    export_detector(
        path,
        detector.model,
        cfg,
        input_mpp=manifest.student_mpp,
        tile_px=tile_px,
        class_names=detector.class_names,
        provenance={**software(), "inputs": {"weights": weights}, "seed": cfg.SEED, "iterations": 0},
    )

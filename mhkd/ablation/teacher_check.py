"""Whether a teacher that other controls trained is the one that these would train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from mhkd.engine.run_config import fit_to_data, leaves
from mhkd.engine.run_record import hash_of_start
from mhkd.weights import read_export
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest

# Where files lie, who computes and what is looked at, of which nothing follows; and what an exported file leaves out.
_NEUTRAL = (
    *("DATASETS.", "DATALOADER.NUM_WORKERS", "OUTPUT_DIR", "VIS_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "VERSION"),
    *("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.TIMM.PRETRAINED", "MODEL.MHKD.TEACHER.", "MODEL.MHKD.PHASES"),
)
# Named first where they differ, as others follow from them.
_FIRST = ("SOLVER.MAX_ITER", "SEED")


def check_teacher(path: Path, wanted: CfgNode, manifest: Manifest) -> None:
    """Refuse the teacher at ``path`` unless it was trained as ``wanted``, the configuration of this teacher, says.

    Its iterations count too: ``independent`` is given those of teacher and student together. Compared are the keys that
    its version and this one know, um/px, classes and the file that it started from; not its tiles, as scales share
    teachers.

    Raises:
        UserError: no exported detector, or another teacher, with what differs.
    """
    content, wanted = read_export(path), fit_to_data(wanted, manifest)
    weights = content.get("provenance", {}).get("inputs", {}).get("weights")
    made = _traits(content["config"], content["input_mpp"], content["class_names"], weights)
    asked = _traits(wanted.dump(), manifest.teacher_mpp, manifest.labels, hash_of_start(wanted.MODEL.WEIGHTS))
    differing = [key for key in asked if key in made and made[key] != asked[key]]
    if differing:
        differing.sort(key=lambda key: key not in _FIRST)
        values = ", ".join(f"{key} {made[key]} (here {asked[key]})" for key in differing[:3])
        raise UserError(
            f"this teacher was trained with {values}" + (f" and {len(differing) - 3} more" * (len(differing) > 3)),
            path=path,
            remedy="give its own --teacher-iterations and --teacher-opts, or train one: leave out --teachers",
        )


def _traits(config: str, mpp: float, labels: Any, weights: str | None) -> dict[str, Any]:
    """What is compared of a teacher, by what it is called."""
    kept = {key: value for key, value in leaves(yaml.safe_load(config)) if not key.startswith(_NEUTRAL)}
    return {**kept, "um/px": round(float(mpp), 6), "classes": list(labels), "initial weights": weights}

"""Which detectors can be distilled into which, and what of them is compared."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS

from mhkd.modeling.dense_outputs import DenseOutputs, FCOSOutputs
from mhkd.modeling.outputs import Outputs
from mhkd.modeling.roi_outputs import RoIOutputs
from mhkd.modeling.teacher import DenseTeacher, RoITeacher, Teacher
from preprocess.errors import UserError

FAMILIES: dict[type, tuple[type[Teacher], Any]] = {
    GeneralizedRCNN: (RoITeacher, RoIOutputs),
    RetinaNet: (DenseTeacher, DenseOutputs),
    FCOS: (DenseTeacher, FCOSOutputs),
}
"""By Detectron2's class: the teacher that such a detector makes, and the comparison of two of them."""


def family_of(detector: Any) -> type | None:
    """The class in FAMILIES that ``detector`` is one of."""
    return next((family for family in FAMILIES if isinstance(detector, family)), None)


def as_teacher(detector: Any, trainable: tuple[str, ...] = ()) -> Teacher:
    """``detector`` as a teacher, of which at most the parts ``trainable`` learn.

    Raises:
        UserError: a detector that cannot teach, or a part of it that cannot learn.
    """
    family = family_of(detector)
    if family is None:
        raise UserError(
            f"the teacher is a {type(detector).__name__}",
            remedy="distillation knows Faster R-CNN, Cascade R-CNN, RetinaNet and FCOS with a feature pyramid",
        )
    return FAMILIES[family][0](detector, trainable)


def build_outputs(
    settings: CfgNode, student: Any, teacher: Teacher, weights: dict[str, float], scale_ratio: int
) -> Outputs:
    """The comparison of outputs for this pair as MODEL.MHKD (``settings``) wants it.

    Detectors of two families have outputs of two kinds: their pyramids alone are compared.

    Raises:
        UserError: a loss has a weight and no meaning for the pair, or the outputs do not fit each other.
    """
    families = [family_of(detector) for detector in (student, teacher.detector)]
    same = families[0] if families[0] is families[1] else None
    kind: Any = FAMILIES[same][1] if same else Outputs
    reads = ("feature", *kind.reads)
    if unread := [name.upper() for name, weight in weights.items() if weight and name not in reads]:
        names = [getattr(family, "__name__", "?") for family in families]
        raise UserError(
            f"MODEL.MHKD.LOSS_WEIGHTS.{unread[0]} has no meaning for a {names[0]} student of a {names[1]} teacher",
            remedy=f"set it to 0; what is distilled between these two is {', '.join(reads).upper()}",
        )
    return Outputs() if kind is Outputs else kind.from_settings(settings, student, teacher, weights, scale_ratio)

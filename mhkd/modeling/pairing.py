"""How the outputs of student and teacher are compared: one class for each kind of pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from mhkd.config import read_config
from mhkd.losses.build import build_feature_loss
from mhkd.losses.pyramid import PyramidLoss, build_adapter
from mhkd.modeling.detectors import Upsampled
from mhkd.modeling.ignored import GroundTruth, ignored_boxes
from mhkd.modeling.teacher import Teacher
from mhkd.weights import export_config, load_strictly, read_checkpoint, read_export
from preprocess.base.errors import UserError

Scales = Sequence[tuple[float, float]]
"""Per image, teacher pixels per pixel of the up-sampled student image, in x and in y."""
MPP_TOLERANCE = 0.01
"""Pixel sizes that differ by less, relatively, are the same."""
LossTerms = dict[str, Tensor]


@dataclass(frozen=True)
class DistillationBatch:
    """What both detectors have of a batch; ground truth and the student's images are in the up-sampled frame.

    features: f_L or, behind a BFA, f_L', the pyramid that the student's head reads, by level (N, C, H, W).
    teacher_pyramid: f_H, likewise.
    """

    images: ImageList
    ground_truth: list[Instances]
    features: dict[str, Tensor]
    teacher_images: ImageList
    teacher_pyramid: dict[str, Tensor]

    @property
    def size_hw(self) -> tuple[int, int]:
        """The largest image of the batch without padding."""
        heights, widths = zip(*self.images.image_sizes, strict=True)
        return max(heights), max(widths)

    @property
    def scales(self) -> Scales:
        """Teacher pixels per pixel of the up-sampled student image."""
        sizes = zip(self.images.image_sizes, self.teacher_images.image_sizes, strict=True)
        return [(tw / w, th / h) for (h, w), (th, tw) in sizes]

    def teacher_ground_truth(self) -> list[Instances]:
        """The ground truth, objects and ignored boxes, in teacher pixels."""
        moved: list[Instances] = []
        sizes = self.teacher_images.image_sizes
        for given, scale, size in zip(self.ground_truth, self.scales, sizes, strict=True):
            boxes, ignored = (to_teacher(x, scale) for x in (given.gt_boxes, ignored_boxes(given)))
            moved.append(GroundTruth(size, ignored=ignored, **{**given.get_fields(), "gt_boxes": boxes}))
        return moved


class Outputs(nn.Module):
    """A pair whose outputs have nothing in common: only the pyramids are compared, and the student learns its task.

    Sub-classes know more. They hold no detector, only what is trained or fixed for the comparison.
    """

    loss_names: ClassVar[tuple[str, ...]] = ()
    """The loss weights that have a meaning for the pair, beside "feature"."""
    weights: Mapping[str, float]
    """Those in force: what has none is not computed. When a detector pair is built, the largest of the whole run."""
    adapter: nn.Module
    """From the student's channels to the teacher's."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = {}
        self.adapter = nn.Identity()

    @property
    def reads_adapter(self) -> bool:
        """Whether a loss with a weight reads ``adapter``."""
        return False

    def student_pass(
        self, student: Upsampled, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> tuple[LossTerms, Any]:
        """The student's detection losses, and its outputs as :meth:`compare` wants them."""
        return student.task_losses(images, features, ground_truth), None

    def compare(
        self, student: Any, teacher: Teacher, outputs: Any, batch: DistillationBatch
    ) -> tuple[LossTerms, LossTerms]:
        """Distillation losses by their names in ``loss_names``, and the detection losses of a teacher that learns."""
        return {}, {}


def level_shift(scale_ratio: int) -> int:
    """By how many levels the pyramids are shifted: log2 of ``scale_ratio``, s / u, which must be a power of two."""
    if scale_ratio < 1 or scale_ratio & (scale_ratio - 1):
        raise UserError(
            f"teacher and up-sampled student differ by a factor of {scale_ratio}",
            remedy="set MODEL.MHKD.UPSAMPLE to the scale factor of the tiles divided by a power of two",
        )
    return scale_ratio.bit_length() - 1


def pair_levels(
    wanted: list[str],
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    scale_ratio: int,
    key: str = "MODEL.MHKD.FEATURE_LEVELS",
    finer: int = 0,
) -> dict[str, str]:
    """Student level -> teacher level of equal size, for the wanted levels that both pyramids have.

    ``student`` and ``teacher`` are the pyramids by level. Where the teacher's image is larger by a factor of two,
    student p2 belongs to teacher p3. ``key`` is where the wanted levels stand. With ``finer`` it is the teacher level
    whose cells are 2^finer times smaller.
    """
    shift = level_shift(scale_ratio) - finer
    shifted = {level: f"p{int(level[1:]) + shift}" for level in wanted}
    pairs = {s: t for s, t in shifted.items() if s in student and t in teacher}
    if not pairs:
        raise UserError(
            f"student and teacher share none of the levels {', '.join(wanted)}",
            remedy=f"change {key} or MODEL.MHKD.UPSAMPLE",
        )
    return pairs


def build_pyramid_loss(
    settings: CfgNode, student: Mapping[str, Any], teacher: Mapping[str, Any], scale_ratio: int
) -> PyramidLoss:
    """The feature loss of MODEL.MHKD (``settings``) for pyramids given by level as Detectron2's ShapeSpec."""
    wanted, factors = list(settings.FEATURE_LEVELS), list(settings.FEATURE_LEVEL_WEIGHTS)
    if factors and len(factors) != len(wanted):
        raise UserError(
            f"MODEL.MHKD.FEATURE_LEVEL_WEIGHTS has {len(factors)} entries for {len(wanted)} FEATURE_LEVELS",
            remedy="give one weight a level, or none",
        )
    weights = dict(zip(wanted, factors or [1.0] * len(wanted), strict=True))
    finer = settings.FEATURE_FINER
    pairs = pair_levels([level for level in wanted if weights[level]], student, teacher, scale_ratio, finer=finer)
    channels = {s: teacher[t].channels * 4**finer for s, t in pairs.items()}
    return PyramidLoss(
        pairs,
        strides={s: student[s].stride for s in pairs},
        adapters={s: build_adapter(student[s].channels, channels[s]) for s in pairs},
        losses={
            s: build_feature_loss(
                settings.FEATURE_LOSS,
                channels[s],
                foreground_only=settings.FEATURE_FOREGROUND,
                cwd_temperature=settings.CWD_TEMPERATURE,
            )
            for s in pairs
        },
        weights={s: float(weights[s]) for s in pairs},
        finer=finer,
    )


def one_of(known: dict[str, Any], name: str, key: str) -> Any:
    """``known[name]``; a UserError that names the config key where there is none."""
    if name not in known:
        raise UserError(f"{key} is {name!r}", remedy=f"use one of {', '.join(known)}")
    return known[name]


def check_classes(student: int, teacher: int) -> None:
    """Outputs are compared class by class."""
    if student != teacher:
        raise UserError(
            f"the student has {student} classes, the teacher {teacher}",
            remedy="train the teacher on these tiles, or set both MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_* to 0",
        )


OutputsT = TypeVar("OutputsT", bound=Outputs)

PAIRS: dict[type, tuple[type[Teacher], type[Outputs]]] = {}
"""By Detectron2's class: the teacher that such a detector makes, and the comparison of two of them."""


def register_pair(detector: type, teacher: type[Teacher]) -> Callable[[type[OutputsT]], type[OutputsT]]:
    """Decorator that registers a comparison (with a ``from_settings``) for two detectors of the class ``detector``.

    A sub-class of a registered detector may have a pair of its own.

    Args:
        detector: also the class of the student that MODEL.MHKD.STUDENT names.
        teacher: what such a detector becomes where it teaches.

    Raises:
        ValueError: the detector has a pair already.
    """

    def register(outputs: type[OutputsT]) -> type[OutputsT]:
        if detector in PAIRS:
            raise ValueError(f"{detector.__name__} has the pair {PAIRS[detector][1].__name__} already")
        PAIRS[detector] = (teacher, outputs)
        return outputs

    return register


def family_of(detector: Any) -> type | None:
    """The class in PAIRS that ``detector`` is one of, the nearest where a class and its base are there."""
    return next((family for family in type(detector).__mro__ if family in PAIRS), None)


def as_teacher(detector: Any, trainable: tuple[str, ...] = ()) -> Teacher:
    """``detector`` as a teacher, of which at most the parts ``trainable`` learn.

    Raises:
        UserError: a detector that cannot teach, or a part of it that cannot learn.
    """
    family = family_of(detector)
    if family is None:
        raise UserError(
            f"the teacher is a {type(detector).__name__}",
            remedy=f"use a detector of one of the kinds {', '.join(kind.__name__ for kind in PAIRS)}",
        )
    return PAIRS[family][0](detector, trainable)


def build_teacher(cfg: CfgNode, trainable: tuple[str, ...] = ()) -> Teacher:
    """The teacher of MODEL.MHKD.TEACHER on the configured device, of which at most the parts ``trainable`` learn.

    Raises:
        UserError: no weights named, missing, or not those of its configuration; a teacher that does not fit the
            student's tiles and configuration (:func:`check_teacher`).
    """
    settings = cfg.MODEL.MHKD.TEACHER
    if not settings.WEIGHTS:
        raise UserError(
            "MODEL.MHKD.TEACHER.WEIGHTS is empty", remedy="run make train-teacher and name its detector.pth"
        )
    if settings.CONFIG_FILE:
        teacher_cfg = read_config(settings.CONFIG_FILE)
        content = read_checkpoint(settings.WEIGHTS)
        weights = content.get("model", content)
    else:
        content = read_export(settings.WEIGHTS)
        teacher_cfg, weights = export_config(content, settings.WEIGHTS), content["model"]
    teacher_cfg.MODEL.DEVICE, teacher_cfg.MODEL.TIMM.PRETRAINED = cfg.MODEL.DEVICE, "none"
    detector = build_model(teacher_cfg)
    load_strictly(detector, weights, settings.WEIGHTS)
    input_mpp, class_names = content.get("input_mpp"), content.get("class_names")
    check_teacher(
        detector,
        cfg,
        teacher_mpp=settings.INPUT_MPP or input_mpp,
        labels=settings.CLASS_NAMES or class_names,
        input_mpp=input_mpp,
        class_names=class_names,
        path=settings.WEIGHTS,
    )
    return as_teacher(detector, trainable)


def check_teacher(
    detector: Any,
    cfg: CfgNode,
    *,
    teacher_mpp: float | None,
    labels: Sequence[str] | None,
    input_mpp: float | None = None,
    class_names: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> None:
    """Refuse a teacher that sees other images, or means other classes, than the student's tiles and configuration say.

    Args:
        detector: the teacher as loaded, before :func:`as_teacher`.
        cfg: the student's configuration.
        teacher_mpp: micrometres per pixel of the tiles' teacher images; None where that is not known.
        labels: of the tiles, in their order; None where they are not known.
        input_mpp, class_names: what the teacher was trained with; None where its file does not say.
        path: the teacher's file, for the message.

    Raises:
        UserError: the two differ in pixel size, classes, channel order or normalisation, with both values; or the
            teacher up-samples its input or has a BFA, as only a student does.
    """

    def demand(fits: bool, reason: str, remedy: str) -> None:
        if not fits:
            raise UserError(reason, path=path, remedy=remedy)

    high = "name the detector that was trained on high magnification"
    demand(
        input_mpp is None or teacher_mpp is None or math.isclose(input_mpp, teacher_mpp, rel_tol=MPP_TOLERANCE),
        f"the teacher was trained at {input_mpp} um/px, the tiles' teacher images have {teacher_mpp}",
        "name a teacher of these tiles, or make tiles with its --teacher-mpp",
    )
    demand(
        class_names is None or labels is None or list(class_names) == list(labels),
        f"the teacher's classes are {', '.join(class_names or ())}, those of the tiles {', '.join(labels or ())}",
        "name a teacher that was trained on tiles with these labels, in this order",
    )
    factor, adapted = getattr(detector, "upsample", 1), list(getattr(detector, "bfa", ()))
    demand(factor == 1, f"the teacher up-samples its input by {factor}, and a teacher's factor is 1", high)
    demand(not adapted, f"the teacher has a BFA on {', '.join(adapted)}, and a teacher has one on no level", high)
    order, wanted = getattr(detector, "input_format", None), cfg.INPUT.FORMAT  # some detectors do not say
    demand(
        order in (None, wanted),
        f"the teacher's INPUT.FORMAT is {order}, the student's {wanted}",
        "train both with one order of colours; tiles are read as RGB",
    )
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        own = [round(float(value), 3) for value in getattr(detector, key.lower()).flatten()]
        given = [round(float(value), 3) for value in cfg.MODEL[key]]
        demand(
            own == given,
            f"the teacher's MODEL.{key} is {own}, the student's {given}",
            f"give both the same MODEL.{key}",
        )


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
    kind: Any = PAIRS[same][1] if same else Outputs
    known = ("feature", *kind.loss_names)
    if unread := [name.upper() for name, weight in weights.items() if weight and name not in known]:
        names = [getattr(family, "__name__", "?") for family in families]
        raise UserError(
            f"MODEL.MHKD.LOSS_WEIGHTS.{unread[0]} has no meaning for a {names[0]} student of a {names[1]} teacher",
            remedy=f"set it to 0; what is distilled between these two is {', '.join(known).upper()}",
        )
    return Outputs() if kind is Outputs else kind.from_settings(settings, student, teacher, weights, scale_ratio)


def to_teacher(boxes: Boxes, scale: tuple[float, float]) -> Boxes:
    """Boxes of the up-sampled student image in teacher pixels, detached."""
    moved = Boxes(boxes.tensor.detach().clone())
    moved.scale(*scale)
    return moved


def _factors(like: Tensor, scale: tuple[float, float]) -> Tensor:
    return like.new_tensor([*scale, *scale])

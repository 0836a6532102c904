"""Every configuration key that mhkd adds to Detectron2's, with its default, and the phases of a run that they describe.

A run is one optimiser, one schedule and one stream of data from its first iteration to its last. A phase changes the
weights of losses and what is trainable, nothing else. All of it follows from the configuration and the iteration, so
that a resumed run is the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

from preprocess.base.configs import config_file
from preprocess.base.errors import UserError


def add_mhkd_config(cfg: CfgNode) -> None:
    """Add mhkd's keys to a Detectron2 configuration, in place."""
    # mhkd reads tiles in this order of channels alone.
    cfg.INPUT.FORMAT = "RGB"
    # Folder written by mhkd tiles.
    cfg.DATASETS.TILES = ""
    # Folder written by mhkd pseudo-labels: what a detector found on the slides that nobody annotated. Empty: these
    # slides are left out, as from the training of a teacher.
    cfg.DATASETS.PSEUDO_LABELS = ""
    # A placebo for controls: every such slide gets the pseudo-labels of another one.
    cfg.DATASETS.SHUFFLE_PSEUDO_LABELS = False
    # The share of training pairs that are of such slides, to a hundredth.
    cfg.DATALOADER.UNLABELLED_SHARE = 0.5
    # Which image of a tile pair a single detector is trained on: "teacher" or "student".
    # The distiller (META_ARCHITECTURE MHKD) always reads both.
    cfg.INPUT.SIDE = "student"
    # Strength of the colour jitter: brightness, contrast and saturation are drawn from 1 +- this.
    cfg.INPUT.COLOR_JITTER = 0.15
    # Objects are made up to so much larger or smaller, the same in both images of a pair, such as 0.25; 0 for never.
    cfg.INPUT.ZOOM_JITTER = 0.0
    # Training a teacher (SIDE: teacher): the share of its images that are the pair's low magnification, enlarged to the
    # size of the high one, so that it learns both.
    cfg.INPUT.LOW_SHARE = 0.0

    # Learning-rate decay points and warm-up length as fractions of SOLVER.MAX_ITER; they replace SOLVER.STEPS and
    # SOLVER.WARMUP_ITERS, so that a schedule keeps its shape when its length changes. A distillation loss that begins
    # in a phase grows to its weight over the same fraction of that phase.
    cfg.SOLVER.DECAY_AT = [0.7, 0.9]
    cfg.SOLVER.WARMUP_SHARE = 0.1

    # "sgd" (Detectron2's, with SOLVER.MOMENTUM) or "adamw", which gets a fresh box head going in far fewer iterations.
    cfg.SOLVER.OPTIMIZER = "sgd"

    # Backbones from timm (build_timm_fpn_backbone).
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    # "none", "packaged" (ImageNet weights from an installed package, no network) or "timm" (timm's own download).
    cfg.MODEL.TIMM.PRETRAINED = "none"

    # FCOS (UpsampledFCOS), each key as its namesake of MODEL.RETINANET; the classes follow the data.
    cfg.MODEL.FCOS = CfgNode()
    cfg.MODEL.FCOS.NUM_CLASSES = 80
    # Levels that the head reads: the first is in charge of the smallest objects, the last of the largest.
    cfg.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # Convolutions of each of the head's two towers, and their normalisation.
    cfg.MODEL.FCOS.NUM_CONVS = 4
    cfg.MODEL.FCOS.NORM = "GN"
    # Foreground probability that a fresh head says everywhere.
    cfg.MODEL.FCOS.PRIOR_PROB = 0.01
    # A location is foreground within so many strides of an object's centre.
    cfg.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 1.5
    cfg.MODEL.FCOS.FOCAL_LOSS_ALPHA = 0.25
    cfg.MODEL.FCOS.FOCAL_LOSS_GAMMA = 2.0
    # Detections: score (of class and centerness) above which they count, candidates a level, overlap of duplicates.
    cfg.MODEL.FCOS.SCORE_THRESH_TEST = 0.05
    cfg.MODEL.FCOS.TOPK_CANDIDATES_TEST = 1000
    cfg.MODEL.FCOS.NMS_THRESH_TEST = 0.6

    cfg.MODEL.MHKD = CfgNode()
    # Teacher pixels per student pixel, s in docs/method.md; 0 for that of the tiles.
    cfg.MODEL.MHKD.SCALE_FACTOR = 0
    # The student that META_ARCHITECTURE MHKD trains: "UpsampledRCNN", "UpsampledRetinaNet" or "UpsampledFCOS".
    cfg.MODEL.MHKD.STUDENT = "UpsampledRCNN"
    # Factor by which the student's input is up-sampled before the backbone: u in docs/method.md.
    cfg.MODEL.MHKD.UPSAMPLE = 1
    # The one switch for the precision of networks: "float32", "bfloat16", "float16" (GPUs, with a scaled loss), or
    # "auto": bfloat16 where the processor or the GPU computes it natively.
    cfg.MODEL.MHKD.PRECISION = "auto"

    # Basic Feature Adaptive module after the student's pyramid.
    cfg.MODEL.MHKD.BFA = CfgNode()
    cfg.MODEL.MHKD.BFA.ENABLED = False
    cfg.MODEL.MHKD.BFA.BOTTLENECK = 128

    # The teacher: an exported detector, or any checkpoint together with its own config file.
    cfg.MODEL.MHKD.TEACHER = CfgNode()
    cfg.MODEL.MHKD.TEACHER.CONFIG_FILE = ""
    cfg.MODEL.MHKD.TEACHER.WEIGHTS = ""
    # What it must have been trained on: um/px (0: those of the tiles) and class names ([]: those of the tiles).
    cfg.MODEL.MHKD.TEACHER.INPUT_MPP = 0.0
    cfg.MODEL.MHKD.TEACHER.CLASS_NAMES = []
    # Mutual learning: [] (fixed teacher) or ["roi_heads"], whose box branch then trains on high magnification with its
    # own detection loss plus REVERSE_KL times the KL towards the student's scores, at LR_FACTOR times the rate.
    cfg.MODEL.MHKD.TEACHER.TRAINABLE = []
    cfg.MODEL.MHKD.TEACHER.REVERSE_KL = 0.5
    cfg.MODEL.MHKD.TEACHER.LR_FACTOR = 0.1

    # Weights of the distillation losses; a loss with weight 0 is not computed.
    cfg.MODEL.MHKD.LOSS_WEIGHTS = CfgNode()
    cfg.MODEL.MHKD.LOSS_WEIGHTS.FEATURE = 0.0
    cfg.MODEL.MHKD.LOSS_WEIGHTS.LOCAL = 0.0
    cfg.MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CLS = 0.0
    cfg.MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_BOX = 0.0
    # Between two FCOS only.
    cfg.MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_CENTERNESS = 0.0
    # Feature loss: "pkd", "mse", "cwd", "fgd" or "mgd".
    cfg.MODEL.MHKD.FEATURE_LOSS = "pkd"
    # Student pyramid levels that imitate the teacher's, and a factor for each on top of LOSS_WEIGHTS.FEATURE ([]: 1).
    cfg.MODEL.MHKD.FEATURE_LEVELS = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.MHKD.FEATURE_LEVEL_WEIGHTS = []
    # By how many levels the teacher's features are finer than the student's, whose cells then learn all cells of the
    # teacher that they cover (space to depth); 0 for cells of equal size.
    cfg.MODEL.MHKD.FEATURE_FINER = 0
    # Compare features inside ground-truth boxes only.
    cfg.MODEL.MHKD.FEATURE_FOREGROUND = False
    # Temperature of CWD's softmax over the image.
    cfg.MODEL.MHKD.CWD_TEMPERATURE = 1.0
    # Which teacher output belongs to which student RoI: "shared", "iou" or "crosskd"; see mhkd/modeling/distill_roi.py.
    # One-stage detectors are compared location by location: "shared" or "crosskd"; see mhkd/modeling/distill_dense.py.
    cfg.MODEL.MHKD.ALIGN = "shared"
    # Box stages of a cascade that are distilled: "all" (their mean) or "last".
    cfg.MODEL.MHKD.STAGES = "all"
    # Temperature of the class-score distillation.
    cfg.MODEL.MHKD.TEMPERATURE = 1.0

    # What a run starts from: "weights" (MODEL.WEIGHTS), "teacher", "imagenet" (a backbone: of the model zoo or
    # MODEL.TIMM.PRETRAINED) or "none".
    cfg.MODEL.MHKD.INIT = "weights"
    # Final decay of a moving average of the trained detector, such as 0.999, which is then exported; 0 for none.
    cfg.MODEL.MHKD.EMA_DECAY = 0.0
    # Prefixes of the student's parameters that are not trained, such as ["backbone.bottom_up"].
    cfg.MODEL.MHKD.FROZEN = []
    # Which weights are exported: "last", or "best" by AP on the validation tiles every TEST.EVAL_PERIOD iterations.
    cfg.MODEL.MHKD.SELECT = "last"
    # A distillation loss above so many times the task loss (median of 20 iterations) is warned of.
    cfg.MODEL.MHKD.MAX_RATIO = 10.0

    # The phases of a run: a list of {NAME: ..., STEP: the training step that it belongs to, SHARE: of SOLVER.MAX_ITER,
    # LOSSES: [those of LOSS_WEIGHTS that are in force], KEY: VALUE, ...}. After its last phase a step exports its
    # student. The keys that a phase may set are those of mhkd/config.py. Empty: one phase with all losses.
    cfg.MODEL.MHKD.PHASES = []


def mhkd_cfg() -> CfgNode:
    """Detectron2's default configuration with mhkd's keys added."""
    cfg = get_cfg()
    add_mhkd_config(cfg)
    return cfg


def read_config(path: str | Path, overrides: list[str] | None = None) -> CfgNode:
    """Read a YAML configuration file and apply ``KEY VALUE`` overrides, as Detectron2's tools do.

    A file that is not there, this one or what ``_BASE_`` names, is that of the package
    (:func:`preprocess.base.configs.config_file`).

    Raises:
        UserError: missing file, unknown key, or a value of the wrong type.
    """
    path = config_file(path)
    if not path.is_file():
        raise UserError("config file not found", path=path, remedy="see configs/ for those that exist")
    cfg = mhkd_cfg()
    try:
        cfg.merge_from_other_cfg(CfgNode(_ConfigFile.load_yaml_with_base(str(path))))
        cfg.merge_from_list(list(overrides or []))
    except KeyError as error:
        raise UserError(
            f"unknown config key {error.args[0]}", path=path, remedy="see mhkd/config.py for mhkd's keys"
        ) from None
    except (AssertionError, ValueError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot apply the configuration: {' '.join(str(error).split())}", path=path, remedy="check KEY VALUE pairs"
        ) from None
    return cfg


class _ConfigFile(CfgNode):
    """Looks for the files that ``_BASE_`` names where :func:`config_file` does."""

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        return config_file(filename).open(encoding="utf-8")


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

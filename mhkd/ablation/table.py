"""The controls of docs/method.md as data: every one is the strict baseline plus what it is there to test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mhkd.config import PhaseSchedule, read_config
from mhkd.engine.initialisation import is_backbone_file
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest

TEACHER, PLAIN, STRICT, ITSELF = "teacher", "plain", "strict", "itself"
_FILES = {"teacher": "teacher.yaml", "both": "baseline_independent.yaml", "plain": "plain.yaml"}
# Keys that a phase sets rather than the whole run, each with the loss without which it means nothing.
_OF_A_PHASE = {"MODEL.MHKD.TEACHER.TRAINABLE": "SEMANTIC_CLS"}
_WEIGHTS = ("FEATURE", "LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX")  # those of MODEL.MHKD.LOSS_WEIGHTS that controls set


@dataclass(frozen=True)
class Control:
    """One row of the table.

    start: whose weights it begins with, "imagenet" or "teacher" (where the configurations say no other,
    MODEL.MHKD.INIT). budget: whose iterations it is given, "teacher", "student", "both", "plain" or "none" (nothing is
    trained); times: so many times these. phases: how many of the method's phases it runs (0: none, it is trained
    alone); joint: all of their losses in one phase; cumulative: each phase keeps the losses of those before. losses:
    weights of MODEL.MHKD.LOSS_WEIGHTS in one phase of its own, in place of the method's. upsample: of the student's
    input, by default that of the configurations; shift: or that divided by two so many times, which shifts the pyramids
    by as many levels. overrides: configuration keys that it sets on top. labels: the control whose detector labels the
    slides that nobody annotated, TEACHER or ITSELF (trained without them); without it these are left out. oracle: it is
    trained where all slides are annotated.
    """

    text: str
    start: str = "teacher"
    budget: str = "student"
    times: float = 1.0
    phases: int = 4
    joint: bool = False
    cumulative: bool = False
    losses: Mapping[str, float] = field(default_factory=dict)
    upsample: int | None = None
    shift: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    labels: str = ""
    oracle: bool = False

    @property
    def needs_unlabelled(self) -> bool:
        """Whether it says nothing without slides that nobody annotated."""
        return bool(self.labels or self.oracle)

    @property
    def distils(self) -> bool:
        """Whether a teacher is at work in its training."""
        return bool(self.phases or self.losses)

    def factor(self, upsample: int) -> int:
        """Its u where that of the configurations is ``upsample``. Raises UserError where there is none."""
        if upsample % 2**self.shift:
            raise UserError(
                f"{self.text}: an up-sampling by {upsample} does not divide by {2**self.shift}",
                remedy="leave the control out, or cut tiles at another scale",
            )
        return self.upsample or upsample >> self.shift


# The weights make each about as large as the task loss at the start, as PKD's is.
def _feature_loss(name: str, weight: float) -> Control:
    overrides = {"MODEL.MHKD.FEATURE_LOSS": name, "MODEL.MHKD.LOSS_WEIGHTS.FEATURE": weight}
    return Control(f"phases 1-4 with {name} as feature loss, weight {weight:g}", overrides=overrides)


def _alone(text: str, *, shift: int = 0, upsample: int | None = None, **settings: Any) -> Control:
    """One loss of others in one phase; ``settings``: its weights, and other keys of MODEL.MHKD."""
    losses = {name: weight for name, weight in settings.items() if name in _WEIGHTS}
    overrides = {f"MODEL.MHKD.{name}": value for name, value in settings.items() if name not in _WEIGHTS}
    return Control(text, phases=0, losses=losses, shift=shift, upsample=upsample, overrides=overrides)


_SHIFT = "features alone, pyramids shifted (MSAD-like, Qi 2021)"

CONTROLS: dict[str, Control] = {
    TEACHER: Control("high-resolution teacher", "imagenet", "teacher", phases=0),
    PLAIN: Control("native LR pixels, ImageNet weights, plain training to the end", "imagenet", "plain", phases=0),
    "independent": Control(
        "LR baseline from ImageNet weights, iterations of teacher and student", "imagenet", "both", phases=0
    ),
    STRICT: Control("the student without distillation, from the same weights", phases=0),
    "bfa": Control("strict with BFA, no distillation", phases=0, overrides={"MODEL.MHKD.BFA.ENABLED": True}),
    "phase1": Control("phase 1 alone (basic features), that is PKD alone (Cao 2022)", phases=1),
    "phases12": Control("phases 1-2 (and adaptive features)", phases=2),
    "phases123": Control("phases 1-3 (and local features)", phases=3),
    "phases1234": Control("phases 1-4 (and semantic information): the whole method"),
    "joint": Control("all losses at once in one phase", joint=True),
    "cumulative": Control("phases 1-4, each with the losses of those before", cumulative=True),
    "mutual": Control(
        "phases 1-4, the teacher's head learns too", overrides={"MODEL.MHKD.TEACHER.TRAINABLE": ["roi_heads"]}
    ),
    "strict_u1": Control("strict, native LR input (u = 1)", phases=0, upsample=1),
    "phases1234_u1": Control("phases 1-4, native LR input (u = 1)", upsample=1),
    "strict_u2": Control("strict, u = 2", phases=0, upsample=2),
    "phases1234_u2": Control("phases 1-4, u = 2", upsample=2),
    "feature_mse": _feature_loss("mse", 2.0),
    "feature_cwd": _feature_loss("cwd", 3.0),
    "feature_fgd": _feature_loss("fgd", 10.0),
    "feature_mgd": _feature_loss("mgd", 30.0),
    "untrained": Control("the teacher on up-sampled LR input, not trained on it", budget="none", phases=0),
    "alone_cwd": _alone("CWD alone (Shu 2021)", FEATURE=3.0, FEATURE_LOSS="cwd"),
    "alone_fgd": _alone("FGD alone (Yang 2022)", FEATURE=10.0, FEATURE_LOSS="fgd"),
    "alone_mgd": _alone("MGD alone (Yang 2022)", FEATURE=30.0, FEATURE_LOSS="mgd"),
    "alone_roi": _alone("RoI features alone (mimic, Li 2017)", LOCAL=1.0),
    "alone_crosskd": _alone("CrossKD alone (Wang 2024)", SEMANTIC_CLS=1.0, SEMANTIC_BOX=1.0, ALIGN="crosskd"),
    "alone_scores": _alone("plain soft labels (Hinton 2015)", SEMANTIC_CLS=1.0),
    "strict_half": Control("strict, u = s / 2", phases=0, shift=1),
    "phases1234_half": Control("phases 1-4, u = s / 2", shift=1),
    "shift_half": _alone(f"{_SHIFT}, u = s / 2", shift=1, FEATURE=2.0, FEATURE_LOSS="mse"),
    "features_equal": Control(
        "features alone, of the teacher's levels of equal stride", phases=1, overrides={"MODEL.MHKD.FEATURE_FINER": 0}
    ),
    "features_finer": Control(
        "features alone, of the teacher's next finer levels", phases=1, overrides={"MODEL.MHKD.FEATURE_FINER": 1}
    ),
    "self_training": Control(
        "strict, and what it finds itself on unannotated slides (of native students: what plain finds)",
        phases=0,
        labels=ITSELF,
    ),
    "placebo": Control(
        "strict, and what the teacher finds on unannotated slides, on the wrong ones",
        phases=0,
        labels=TEACHER,
        overrides={"DATASETS.SHUFFLE_PSEUDO_LABELS": True},
    ),
    "oracle": Control("strict, all slides annotated", phases=0, oracle=True),
    "shift_u1": _alone(f"{_SHIFT}, native LR input (u = 1)", upsample=1, FEATURE=2.0, FEATURE_LOSS="mse"),
}


_NAME = re.compile(r"(?P<base>\w+?)(?P<labels>_labels)?(?:_x(?P<times>\d+(?:\.\d+)?))?")


def control_of(name: str) -> Control:
    """The control ``name``: one of CONTROLS, of which students also have other forms.

    With ``_labels`` after its name a student learns from what the teacher finds on unannotated slides as well; with
    ``_x2.2`` at the end it is given 2.2 times its iterations, which is how two of them get equal time.

    Raises:
        UserError: no such control.
    """
    match = _NAME.fullmatch(name)
    control = CONTROLS.get(match["base"]) if match else None
    if not match or control is None:
        raise UserError(f"no control is called {name}", remedy=f"there are {', '.join(CONTROLS)}")
    times = float(match["times"] or 1)
    fixed = control.budget not in {"student", "plain"} or (match["labels"] and control.needs_unlabelled)
    if name != match["base"] and (fixed or not times):
        raise UserError(f"no control is called {name}", remedy=f"{match['base']} has no such form")
    if match["labels"]:
        text = f"{control.text}, and what the teacher finds on unannotated slides"
        control = replace(control, text=text, labels=TEACHER)
    text = control.text + f", {times:g} times the iterations" * (times != 1)
    return replace(control, text=text, times=times)


def in_order(names: Iterable[str]) -> list[str]:
    """``names`` of controls, each once, as in CONTROLS; other forms of one follow it."""
    order = list(CONTROLS)

    def key(name: str) -> tuple[int, bool, float]:
        base, labels, times = match.groups() if (match := _NAME.fullmatch(name)) else (name, None, None)
        return order.index(base) if base in order else len(order), bool(labels), float(times or 1)

    return sorted(dict.fromkeys(names), key=key)


@dataclass(frozen=True)
class Recipe:
    """What all controls share: the configurations, the data, the iterations, and overrides of any key.

    configs: a folder with teacher.yaml, baseline_*.yaml and distill.yaml, and plain.yaml for that control.
    teacher_iterations, iterations: of the teacher and of every student. plain_iterations: of plain, by default those of
    plain.yaml. scale: the student's um/px over the teacher's; up-sampled students have it as their u, whatever their
    configuration says. oracle_tiles: those of the same slides, all of them annotated. overrides: ``KEY VALUE`` pairs
    for students; teacher_overrides: for the teacher.
    """

    configs: Path
    tiles: Path
    teacher_iterations: int
    iterations: int
    scale: int
    plain_iterations: int | None = None
    oracle_tiles: Path | None = None
    overrides: tuple[str, ...] = ()
    teacher_overrides: tuple[str, ...] = ()
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        configs: Path,
        tiles: Path,
        *,
        teacher_iterations: int | None = None,
        iterations: int | None = None,
        **shared: Any,
    ) -> Recipe:
        """For the scale factor of ``tiles``; iterations that are not given are those of ``configs``."""
        manifest = Manifest.read(tiles)
        return cls(
            configs=configs,
            tiles=tiles,
            teacher_iterations=teacher_iterations or int(read_config(configs / "teacher.yaml").SOLVER.MAX_ITER),
            iterations=iterations or int(read_config(configs / "baseline_strict.yaml").SOLVER.MAX_ITER),
            scale=round(manifest.student_mpp / manifest.teacher_mpp),
            **shared,
        )

    def config(
        self, control: Control, *, seed: int, output_dir: Path, teacher: Path | None, labels: Path | None = None
    ) -> CfgNode:
        """The complete configuration of one run; ``labels``: those of its ``control.labels``.

        Raises:
            UserError: its phases do not add up to its budget, or an override names other weights.
        """
        is_teacher = control.budget == "teacher"
        cfg = self._read(control)
        if control.distils:
            cfg.MODEL.MHKD.PHASES = self._phases(control, cfg.MODEL.MHKD.PHASES)
            cfg.MODEL.MHKD.TEACHER.WEIGHTS = str(teacher)
        of_run = {k: v for k, v in control.overrides.items() if k not in _OF_A_PHASE}
        of_run |= {f"MODEL.MHKD.LOSS_WEIGHTS.{loss}": weight for loss, weight in control.losses.items()}
        cfg.merge_from_list([x for pair in of_run.items() for x in pair])
        if not is_teacher:
            _set_input(cfg, control, 1 if cfg.MODEL.MHKD.UPSAMPLE == 1 else self.scale)
        cfg.SOLVER.MAX_ITER = self.budget(control)
        cfg.merge_from_list(list(self.teacher_overrides if is_teacher else self.overrides))
        tiles = self.oracle_tiles if control.oracle else self.tiles
        if tiles is None:
            raise UserError(f"{control.text}: there are no such tiles", remedy="give --oracle-tiles")
        cfg.DATASETS.TILES, cfg.OUTPUT_DIR, cfg.SEED = str(tiles), str(output_dir), seed
        cfg.DATASETS.PSEUDO_LABELS = str(labels) if control.labels else ""
        cfg.MODEL.DEVICE = self.device
        if control.distils and str(teacher) != cfg.MODEL.MHKD.TEACHER.WEIGHTS:
            raise UserError(
                f"{control.text}: another teacher, {cfg.MODEL.MHKD.TEACHER.WEIGHTS}",
                remedy="leave MODEL.MHKD.TEACHER.WEIGHTS to the controls: a student has the teacher of its seed",
            )
        if control.start == "teacher" and cfg.MODEL.MHKD.INIT != "imagenet":
            cfg.MODEL.WEIGHTS = str(teacher)
        elif cfg.MODEL.WEIGHTS and not is_backbone_file(cfg.MODEL.WEIGHTS):
            raise UserError(
                f"{control.text}: it would start from {cfg.MODEL.WEIGHTS}",
                remedy="leave MODEL.WEIGHTS out, or name a model-zoo backbone (.pkl)",
            )
        cfg.freeze()
        if self.budget(control) != cfg.SOLVER.MAX_ITER:
            raise UserError(
                f"{control.text}: {cfg.SOLVER.MAX_ITER} iterations, and the controls have {self.budget(control)}",
                remedy="set the iterations by --iterations and --teacher-iterations, not by SOLVER.MAX_ITER",
            )
        PhaseSchedule.from_config(cfg)  # refuses phases that cannot be, before anything is trained
        return cfg

    def budget(self, control: Control) -> int:
        """How many iterations a control is given."""
        if control.budget == "plain":
            own = self.plain_iterations or int(self._read(control).SOLVER.MAX_ITER)
        else:
            teacher, student = self.teacher_iterations, self.iterations
            own = {"teacher": teacher, "student": student, "both": teacher + student, "none": 0}[control.budget]
        return round(control.times * own)

    def labeller(self, control: Control) -> str:
        """Which control's detector labels slides for ``control``; empty where none does."""
        if control.labels != ITSELF:
            return control.labels
        return PLAIN if self._read(control).MODEL.MHKD.UPSAMPLE == 1 else STRICT

    def _read(self, control: Control) -> CfgNode:
        student = "distill.yaml" if control.distils else "baseline_strict.yaml"
        return read_config(self.configs / _FILES.get(control.budget, student))

    def _phases(self, control: Control, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first of the phases ``found`` of the method, or the control's own."""
        if control.losses:
            return [{"NAME": "alone", "LOSSES": list(control.losses)}]
        if len(found) < control.phases:
            raise UserError(f"{len(found)} phases where a control wants {control.phases}", path=self.configs)
        found = [{key: value for key, value in phase.items() if key != "STEP"} for phase in found[: control.phases]]
        if control.cumulative or control.joint:
            found = [reduce(_with_losses, found[: i + 1]) for i in range(len(found))]
        if control.joint:
            found = [found[-1] | {"NAME": "joint"}]
        own = {key: value for key, value in control.overrides.items() if key in _OF_A_PHASE}
        return [phase | {k: v for k, v in own.items() if _OF_A_PHASE[k] in phase["LOSSES"]} for phase in found]


def _with_losses(before: dict[str, Any], phase: dict[str, Any]) -> dict[str, Any]:
    """``phase`` with the losses of the one before it as well."""
    return before | phase | {"LOSSES": list(dict.fromkeys([*before["LOSSES"], *phase["LOSSES"]]))}


def _set_input(cfg: CfgNode, control: Control, upsample: int) -> None:
    """Up-sample as ``control`` does; with less than ``upsample`` objects are smaller, and so must the anchors be."""
    cfg.MODEL.MHKD.UPSAMPLE = factor = control.factor(upsample)
    sizes = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[side * factor / upsample for side in level] for level in sizes]

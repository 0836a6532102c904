"""What is asked of one slide, and what an earlier run has already done of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mhkd.deploy.detector import Detector, choose_threshold, describe_detector
from mhkd.deploy.load import resolve_backend
from mhkd.deploy.registry import find_entry
from mhkd.inference.devices import device_of_process
from mhkd.inference.formats import DEFAULT_FORMATS, FORMATS, WEAK_SUFFIX
from mhkd.inference.merge import RULES
from mhkd.inference.predictor import MAX_OVERLAP, SCORE_FLOOR, SlidePredictor
from mhkd.inference.summary import SUFFIX, read_summary
from mhkd.provenance import software
from preprocess.annotations.origin import Origin
from preprocess.base.arguments import number, positive, share
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.slides.naming import content_of, place_of
from preprocess.slides.search import SlideFile

# One more whenever the same slide, model and options give other detections, or the files other fields.
_RECIPE = 10


def _option(default: Any, help: str, **more: Any) -> Any:
    """A field with what mhkd infer gives to argparse for it."""
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class SearchOptions:
    """How slides are searched; each field is an option of mhkd infer.

    ``batch_size`` changes how long it takes and the detections by roundings alone; all else changes them.

    Raises:
        UserError: an option is out of its range.
    """

    score_thresh: float | None = _option(
        None, "leave out detections that score less (default: the model's own, or 0.5)", type=share
    )
    skip_unreadable: bool = _option(False, "go on where a slide is damaged, and say how much", action="store_true")
    tile_px: int | None = _option(
        None, "side of the tiles in the model's pixels (default: 4 x the training's, or 448)", type=positive
    )
    overlap: float | None = _option(
        None, "of tiles, as a share of their side (default: 256 um, at most 0.25)", type=number(0, MAX_OVERLAP)
    )
    batch_size: int | None = _option(
        None, "tiles per step of the model (default: 1 on a CPU, up to 16 on a GPU)", type=positive
    )
    merge_rule: str = _option(RULES[0], "how boxes are merged at the seams", choices=RULES)

    def __post_init__(self) -> None:
        if self.score_thresh is not None and not 0.0 <= self.score_thresh <= 1.0:
            raise UserError(f"a score threshold of {self.score_thresh:g} is not possible", remedy="give 0 to 1")

    def threshold(self, detector: Detector) -> tuple[float, str]:
        """The score from which on something counts as found, and where that number comes from."""
        origin = detector.provenance.get("score_thresh_origin")
        return choose_threshold(self.score_thresh, detector.score_thresh, origin)


@dataclass(frozen=True)
class ModelFile:
    """A detector on disk.

    Attributes:
        load: ``load(path, device, backend=...)`` opens it, a function at the top level of a module: what was sent to
            another process then equals what was sent there before, so that each loads the model once.
        device: what the user named; with several GPUs each process makes its own of it.
        threads: for torch in each process; None: as many as it likes.
    """

    load: Callable[..., Detector]
    path: Path
    sha256: str
    device: str = "cpu"
    threads: int | None = None
    backend: str = "torch"

    @classmethod
    def of(
        cls, load: Callable[..., Detector], path: str | Path, device: str, workers: int, *, backend: str = "auto"
    ) -> ModelFile:
        """The detector at ``path``, for one of ``workers`` processes of this machine.

        Raises:
            UserError: there is no such file.
        """
        if not Path(path).is_file():
            raise UserError("checkpoint not found", path=path)
        threads = max(1, (os.cpu_count() or 1) // workers) if workers else None
        return cls(load, Path(path).absolute(), sha256_of(path), device, threads, resolve_backend(path, backend))


@dataclass(frozen=True)
class SearchSpec:
    """With what, and how, slides are searched."""

    model: ModelFile
    options: SearchOptions = SearchOptions()

    def key(self) -> list[Any]:
        """What decides about the detections, but for the rounding of the machine that computes them."""
        options = asdict(self.options)
        del options["batch_size"]
        return [_RECIPE, self.model.sha256, self.model.backend, options]


@dataclass(frozen=True)
class OutputSpec:
    """What is written, and where; ``formats`` as :func:`mhkd.inference.formats.in_order` gives them."""

    folder: Path
    formats: tuple[str, ...] = DEFAULT_FORMATS
    qupath_origin: Origin = "bounds"


@dataclass(frozen=True)
class SlideJob:
    """One slide to search.

    Attributes:
        content: the slide's fingerprint; None where it cannot be read.
        mpp: um per level-0 pixel in place of what the file says.
    """

    file: SlideFile
    search: SearchSpec
    outputs: OutputSpec
    content: str | None = None
    mpp: float | None = None

    @classmethod
    def of(cls, file: SlideFile, search: SearchSpec, outputs: OutputSpec, *, mpp: float | None = None) -> SlideJob:
        """The job for ``file``; ``mpp`` is for a slide whose table states none."""
        return cls(file, search, outputs, content_of(file.path), mpp if file.mpp is None else file.mpp)

    @property
    def name(self) -> str:
        """What the names of the outputs begin with."""
        return self.file.name

    @property
    def summary_file(self) -> Path:
        """Written last: with it the slide is finished."""
        return self.outputs.folder / f"{self.name}{SUFFIX}"

    def output_file(self, form: str) -> Path:
        """Where the output in the format of this name goes."""
        return self.outputs.folder / f"{self.name}{FORMATS[form].suffix}"

    @property
    def weak_file(self) -> Path:
        """The table of detections below the score threshold, which no output shows."""
        return self.outputs.folder / f"{self.name}{WEAK_SUFFIX}"

    @property
    def place(self) -> str | None:
        """A hash of where the slide lies; None where its name is neutral, which nobody shall find by trying names."""
        return None if self.file.alias else place_of(self.file.path)

    def key(self) -> dict[str, str]:
        """Hashes of what the detections and of what the other outputs depend on."""
        shown = [self.file.file_name, self.file.patient, self.outputs.formats, self.outputs.qupath_origin]
        return {"search": _hash([*self.search.key(), self.content, self.mpp]), "outputs": _hash(shown)}

    def finished(self) -> dict[str, Any] | None:
        """The summary of an earlier run that did all that is asked, with all its files; or None."""
        summary = self.searched()
        if summary is None or summary["key"] != self.key():
            return None
        return summary if all((self.outputs.folder / name).is_file() for name in summary["files"].values()) else None

    def searched(self) -> dict[str, Any] | None:
        """The summary of an earlier run that found the same, perhaps with other outputs; or None."""
        summary = read_summary(self.summary_file)
        if summary is None or self.content is None or summary["key"]["search"] != self.key()["search"]:
            return None
        return summary if self.output_file("csv").is_file() and self.weak_file.is_file() else None

    def check_owner(self) -> None:
        """Raise UserError where the outputs that are there are another slide's: of other content, from elsewhere."""
        found = read_summary(self.summary_file) or {}
        place, content = found.get("place"), found.get("content")
        if place and content and self.content and place != self.place and content != self.content:
            raise UserError(
                f"{self.summary_file} holds the results of another slide of this name",
                path=self.file.path,
                remedy="give another --output-dir, or rename the slide",
            )

    def remove_outputs(self) -> None:
        """Remove all that an earlier run left of the slide, the summary first."""
        self.summary_file.unlink(missing_ok=True)
        for path in (self.weak_file, *map(self.output_file, FORMATS)):
            path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def open_predictor(search: SearchSpec) -> tuple[SlidePredictor, dict[str, Any]]:
    """The predictor of ``search``, loaded once per process, and what the summaries say of model and software."""
    model, options = search.model, search.options
    if model.threads is not None:
        torch.set_num_threads(model.threads)
    detector = model.load(model.path, device_of_process(model.device), backend=model.backend)
    predictor = SlidePredictor(
        detector,
        tile_px=options.tile_px,
        overlap=options.overlap,
        batch_size=options.batch_size,
        score_thresh=min(SCORE_FLOOR, options.threshold(detector)[0]),
        merge_rule=options.merge_rule,
    )
    entry = find_entry(model.sha256)
    named = {"name": entry.name, "card": entry.card} if entry else {}
    return predictor, {"model": describe_detector(detector) | named, "provenance": software()}


def check_names(files: Sequence[SlideFile]) -> None:
    """Raise UserError where two slides would overwrite each other's outputs."""
    owner: dict[str, SlideFile] = {}
    for file in files:
        for suffix in (SUFFIX, WEAK_SUFFIX, *(form.suffix for form in FORMATS.values())):
            output = f"{file.name}{suffix}".lower()  # some file systems take names that differ in case only for one
            if output in owner and owner[output] != file:
                what = "has the same content as" if file.alias else "has the same name as"
                raise UserError(
                    f"{what} {owner[output].path}: their outputs would be one",
                    path=file.path,
                    remedy="leave one out, or run them into different --output-dir",
                )
            owner[output] = file


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

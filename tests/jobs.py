"""Slides to search with the detector of discs, as the tool asks for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mhkd.inference.formats import in_order
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.slide_job import ModelFile, OutputSpec, SearchOptions, SearchSpec, SlideJob
from mhkd.inference.slide_runner import SlideResult, search_slide
from preprocess.slides.search import SlideFile
from tests.blobs import BlobDetector

ABOUT = {"model": {"file": "model.pth", "sha256": "0" * 64}, "provenance": {"git_commit": None}}


def load_blobs(path: Path, device: str, *, backend: str) -> BlobDetector:
    return BlobDetector()


def load_and_tell(path: Path, device: str, *, backend: str) -> BlobDetector:
    """Also leaves a line with the process beside ``path``."""
    with path.with_suffix(".loads").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    return BlobDetector()


def job_of(
    slide: Path | SlideFile,
    folder: Path,
    *,
    formats: tuple[str, ...] = ("geojson", "overlay"),
    mpp: float | None = None,
    origin: Any = "bounds",
    sha256: str = "0" * 64,
    backend: str = "torch",
    **options: Any,
) -> SlideJob:
    file = slide if isinstance(slide, SlideFile) else SlideFile(slide)
    model = ModelFile(load_blobs, Path("model.pth"), sha256, backend=backend)
    outputs = OutputSpec(folder, in_order(formats), origin)
    return SlideJob.of(file, SearchSpec(model, SearchOptions(**options)), outputs, mpp=mpp)


def search(slide: Path | SlideFile, folder: Path, detector: BlobDetector | None = None, **options: Any) -> SlideResult:
    return search_slide(job_of(slide, folder, **options), SlidePredictor(detector or BlobDetector()), ABOUT)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder and their bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}

"""What a demo slide is made from: its specification, and the one place that says how hard it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

RECIPE = 1
"""Raised whenever the painting changes, so that slides of an older recipe are made again."""


@dataclass(frozen=True)
class Difficulty:
    """How hard glomeruli are to tell from what looks like them; every knob acts on all slides of a cohort.

    Raising ``colour_match``, ``texture_match`` and ``halo_fraction`` towards 1, or ``contrast_loss`` and
    ``distractors_per_glomerulus``, makes detection at 8 um per pixel harder and leaves 2 um per pixel mostly as it is.
    """

    distractors_per_glomerulus: float = 1.0
    """Look-alikes of glomerulus size for each glomerulus."""
    colour_match: float = 0.8
    """0: look-alikes keep their natural mean stain; 1: the mean stain of a glomerulus, so only texture differs."""
    texture_match: float = 0.8
    """0 to 1: how many white gaps, as coarse as a tuft's clefts and open loops, look-alikes have."""
    halo_fraction: float = 0.75
    """Fraction of look-alikes with a bright ring like Bowman's space."""
    bowman_space_um: tuple[float, float] = (1.5, 11.0)
    """Range of the mean width of Bowman's space; a narrow space makes glomeruli harder to see."""
    sclerotic_fraction: float = 0.13
    """Fraction of glomeruli that are globally sclerotic."""
    contrast_loss: float = 0.0
    """0 to 1: how far nuclei and matrix inside glomeruli and look-alikes fade towards the local mean."""
    artefact_rate: float = 1.0
    """Scales the number of folds, pen strokes, blurred fields and specks of dust."""
    noise_levels: float = 2.5
    """Standard deviation of the scanner noise, in grey levels."""


@dataclass(frozen=True)
class Look:
    """What sets one laboratory's slides apart from another's, whatever they show."""

    stain_spread: float = 1.0
    """How far colours stray from the textbook's; 3 is more than laboratories differ."""
    tubule_spacing_um: float = 47.0
    """Mean distance of cortical tubules."""
    wall_scale: float = 1.0
    """Height of the epithelium; above 1 it closes the lumina, as in tissue that shrank in fixation."""
    fibrosis: float = 0.0
    """Added to the fibrosis map, whose deviation is 1: at 0.7 half of the interstitium is widened, at -2 none."""


@dataclass(frozen=True)
class SlideSpec:
    """One demo slide. The same specification always gives the same bytes."""

    name: str
    patient: str
    split: str
    seed: int
    stain: str = "PAS"
    """A key of ``stain.DYES``."""
    kind: str = "wedge"
    """``wedge`` (capsule, cortex, medulla) or ``cores`` (needle biopsy)."""
    size_px: tuple[int, int] = (7680, 6656)
    """Width and height of level 0, both even."""
    mpp: float = 0.499
    flavour: str = "svs"
    """``svs`` (Aperio style, states its mpp) or ``tiff`` (generic, states none)."""
    glomeruli: tuple[int, int] = (15, 35)
    """Fewest and most glomeruli aimed at; fewer where they do not fit."""
    difficulty: Difficulty = field(default_factory=Difficulty)
    look: Look = field(default_factory=Look)

    @property
    def file_name(self) -> str:
        """Name of the slide file."""
        return f"{self.name}.{'svs' if self.flavour == 'svs' else 'tiff'}"

    @property
    def digest(self) -> str:
        """A short hash of everything that decides the slide's bytes."""
        text = json.dumps({"recipe": RECIPE, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

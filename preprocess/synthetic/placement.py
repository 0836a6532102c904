"""Which glomeruli, look-alikes and vessels a slide has, and where. All coordinates in um, slide frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preprocess.synthetic.fields import distance_px
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.shapes import sample_contour, sample_diameter_um
from preprocess.synthetic.tissue import COARSE_UM, Tissue

GLOMERULI = ("glomerulus", "sclerotic")
DISTRACTORS = ("lymphoid", "tubule_cluster", "cast", "artery")
_TURNS = ("tubule_cluster", "lymphoid", "cast", "tubule_cluster", "lymphoid", "artery", "cast")
"""The order in which look-alikes are taken."""
_GAP_UM = 14.0
_TRIES = 400


@dataclass(frozen=True)
class Placed:
    """A structure with its outline (n, 2) and the seed of its own random numbers."""

    kind: str
    outline: np.ndarray
    centre: np.ndarray
    reach_um: float
    """Largest distance of the outline from the centre."""
    seed: int


def place_structures(rng: np.random.Generator, tissue: Tissue, spec: SlideSpec) -> list[Placed]:
    """Glomeruli in the cortex, look-alikes among them, arteries and veins; no two overlap."""
    cortex_mm2 = float((tissue.mask & tissue.cortex).sum()) * (COARSE_UM / 1000) ** 2
    fewest, most = spec.glomeruli
    count = int(np.clip(round(rng.uniform(3.0, 6.0) * cortex_mm2), fewest, most))
    wanted: list[tuple[str, str, float]] = []
    for _ in range(count):
        sclerotic = rng.random() < spec.difficulty.sclerotic_fraction
        shape = "Sclerotic" if sclerotic else "Normal"
        wanted.append(("sclerotic" if sclerotic else "glomerulus", shape, sample_diameter_um(rng, shape)))
    for index in range(round(count * spec.difficulty.distractors_per_glomerulus)):
        diameter = sample_diameter_um(rng, "Sclerotic" if rng.random() < 0.2 else "Normal")
        wanted.append((_TURNS[index % len(_TURNS)], "Normal", diameter))
    for _ in range(max(1, round(cortex_mm2 * 0.5))):
        wanted.append(("vein", "Normal", float(rng.uniform(90, 330))))
    for _ in range(2 * count):
        wanted.append(("arteriole", "Normal", float(rng.uniform(24, 55))))
    return _throw(rng, tissue, wanted, edge_cut=0.25 if spec.kind == "cores" else 0.05)


def _throw(
    rng: np.random.Generator, tissue: Tissue, wanted: list[tuple[str, str, float]], edge_cut: float
) -> list[Placed]:
    """Throw each wanted structure at random until it lands clear of the others; give up after ``_TRIES``.

    The kinds come in turn as listed, so glomeruli never lose their place to something else.
    """
    inside = distance_px(tissue.mask) * COARSE_UM
    rows, columns = np.nonzero(tissue.mask)
    spots = np.stack([columns, rows], axis=1) * COARSE_UM
    centres, reaches, placed = np.zeros((0, 2)), np.zeros(0), []
    for kind, shape, diameter in wanted:
        outline = sample_contour(rng, shape, diameter)
        reach = float(np.hypot(*outline.T).max())
        may_be_cut = kind in GLOMERULI and rng.random() < edge_cut
        clearance = 0.35 * reach if may_be_cut else reach + 12
        tries = spots[rng.integers(len(spots), size=_TRIES)] + rng.uniform(0, COARSE_UM, (_TRIES, 2))
        usable = tissue.at(inside, tries) > clearance
        usable &= tissue.at(tissue.capsule_depth_um, tries) > reach + 45
        if kind in GLOMERULI:
            usable &= tissue.at(tissue.cortex & ~tissue.straight, tries)
        elif kind in DISTRACTORS:
            usable &= tissue.at(tissue.cortex, tries) | (rng.random(_TRIES) < 0.4)
        for spot in tries[usable]:
            if np.all(np.hypot(*(centres - spot).T) > reaches + reach + _GAP_UM):
                centres, reaches = np.vstack([centres, spot]), np.append(reaches, reach)
                placed.append(Placed(kind, outline + spot, spot, reach, int(rng.integers(1 << 62))))
                break
    return placed

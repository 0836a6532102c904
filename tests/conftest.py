"""Small slides that many tests share: real pyramids with discs of known place as their objects."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.synthetic.svs import write_svs

SLIDE_WH, SLIDE_MPP = (1500, 1200), 0.5
TISSUE_L0 = (60, 60, 1100, 1140)
"""Left, top, right, bottom of the tissue, in level-0 pixels; all else is glass."""
DISCS_L0 = np.array([(300, 260, 60), (700, 420, 80), (512, 800, 70), (930, 900, 50), (240, 980, 64)], np.float64)


@pytest.fixture(scope="session")
def discs() -> np.ndarray:
    """Centre x, centre y and radius of each object of ``svs_slide``: (5, 3), level-0 px."""
    return DISCS_L0.copy()


@pytest.fixture(scope="session")
def slide_image() -> np.ndarray:
    """The level-0 pixels of ``svs_slide``, before JPEG: uint8 RGB (1200, 1500, 3)."""
    image = np.full((SLIDE_WH[1], SLIDE_WH[0], 3), (243, 241, 243), np.uint8)
    rng = np.random.default_rng(0)
    x0, y0, x1, y1 = TISSUE_L0
    texture = cv2.resize(rng.normal(0, 14, ((y1 - y0) // 8, (x1 - x0) // 8)), (x1 - x0, y1 - y0))
    image[y0:y1, x0:x1] = np.clip(np.array((222, 150, 190)) + texture[..., None], 0, 255)
    for x, y, radius in DISCS_L0.astype(int).tolist():
        cv2.circle(image, (x, y), radius, (110, 50, 140), -1, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def svs_slide(tmp_path_factory: pytest.TempPathFactory, slide_image: np.ndarray) -> Path:
    """An SVS of 1500 x 1200 px at 0.5 um/px with levels 1, 4 and 16, and five dark discs on pink tissue."""
    return write_svs(tmp_path_factory.mktemp("slides") / "discs.svs", slide_image, mpp=SLIDE_MPP)


@pytest.fixture(scope="session")
def geojson(svs_slide: Path) -> Path:
    """The discs of ``svs_slide`` as QuPath writes them, with the class Glomerulus."""
    path = svs_slide.with_suffix(".geojson")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [_feature(*disc) for disc in DISCS_L0]}))
    return path


@pytest.fixture(scope="session")
def slides_csv(svs_slide: Path, geojson: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of three such slides, one patient and one split each; paths relative to the table."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["slide,annotation,patient,split"]
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        # The same pixels would be no three patients.
        (folder / f"{name}.svs").write_bytes(svs_slide.read_bytes() + name.encode())
        shutil.copy(geojson, folder / f"{name}.geojson")
        rows.append(f"{name}.svs,{name}.geojson,patient-{name},{split}")
    path = folder / "slides.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def _feature(x: float, y: float, radius: float) -> dict[str, object]:
    ring = [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 65)]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]},
        "properties": {"objectType": "annotation", "classification": {"name": "Glomerulus", "color": [0, 160, 0]}},
    }


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, untrained detector of 32 px tiles at 8 um/px, up-sampled by 4, with BFA."""
    from tests.detectors import write_detector

    folder = tmp_path_factory.mktemp("models")
    return write_detector(folder / "detector.pth", "MODEL.MHKD.BFA.ENABLED", True)

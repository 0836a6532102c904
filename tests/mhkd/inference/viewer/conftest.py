"""Results of a search of small slides, and the viewer's server of them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mhkd.inference.viewer.results import SlideView, find_views
from mhkd.inference.viewer.server import make_viewer
from mhkd.structures import SlideDetections
from preprocess.slides.search import SlideFile
from tests.blobs import draw
from tests.results import disc_detections, write_results
from tests.scn import write_scn

OFFSET_XY = (1600, 800)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, svs_slide: Path) -> Path:
    """A folder with ``part.scn`` and what searches left in ``out``."""
    root = tmp_path_factory.mktemp("searched")
    scn = write_scn(root / "part.scn", draw(), size_wh=(4000, 3200), offset_xy=OFFSET_XY)
    write_results(root / "out", svs_slide)
    x, y = OFFSET_XY
    one = SlideDetections([[x + 410, y + 360, x + 590, y + 540]], [0.75], [0], ("glomerulus",))
    write_results(root / "out", scn, one)
    write_results(root / "out", svs_slide, disc_detections(), name="zz-lost", slide="zz-lost.svs")
    return root


@pytest.fixture
def results(searched: Path, svs_slide: Path, tmp_path: Path) -> list[SlideView]:
    """``discs.svs`` with five detections of two classes, ``part.scn`` scanned at OFFSET_XY with one; a lost slide.

    All but ``discs.svs`` is a copy below ``tmp_path``, to be spoilt at will.
    """
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    return find_views(tmp_path / "out", [SlideFile(svs_slide), SlideFile(tmp_path / "part.scn")])


@pytest.fixture
def address(results: list[SlideView]) -> Iterator[str]:
    """Where the viewer of ``results`` answers."""
    server = make_viewer(results)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()

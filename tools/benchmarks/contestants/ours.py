"""This project: finds the tissue, cuts its tiles by threads, waits until they are on the disk."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from typing import Any

from preprocess.base.files import sync_folder
from preprocess.base.geometry import Region, Size, px_to_l0
from preprocess.base.grid import grid_tiles
from preprocess.base.images import encode_image
from preprocess.base.parallel import map_in_order
from preprocess.slides.slide import Slide
from preprocess.tissue.mask import TissueMask


def tissue_places(slide: Slide, job: dict[str, Any]) -> list[Region]:
    """The tiles of the plain grid that have enough tissue."""
    tissue = TissueMask.of(slide)
    side_l0 = px_to_l0(job["tile_px"], job["mpp"], slide.mpp)
    places = grid_tiles(slide.region, (side_l0, side_l0))
    return [place for place in places if tissue.coverage(place) >= job["min_tissue"]]


def main(job: dict[str, Any]) -> None:
    size, out = Size(job["tile_px"], job["tile_px"]), Path(job["out"])

    def cut(place: Region) -> None:
        data = encode_image(slide.read(place, size), ".jpg", quality=job["quality"], chroma="420")
        (out / f"{place.x:.0f}_{place.y:.0f}.jpg").write_bytes(data)

    with Slide.open(job["slide"]) as slide:
        deque(map_in_order(cut, tissue_places(slide, job), job["workers"]), maxlen=0)
    sync_folder(out)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

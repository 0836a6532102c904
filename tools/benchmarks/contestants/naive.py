"""What one writes first: OpenSlide reads level 0, Pillow reduces and saves. The places are given."""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import openslide


def cut(job: dict[str, Any]) -> None:
    slide = openslide.OpenSlide(job["slide"])
    side, tile = round(job["side_l0"]), job["tile_px"]
    for x, y in job["places"]:
        image = slide.read_region((x, y), 0, (side, side)).convert("RGB").resize((tile, tile))
        image.save(f"{job['out']}/{x}_{y}.jpg", quality=job["quality"])


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    workers = job["workers"]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(cut, [{**job, "places": job["places"][i::workers]} for i in range(workers)])

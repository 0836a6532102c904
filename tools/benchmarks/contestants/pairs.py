"""This project's real job: aligned pairs with labels by tools/make_tiles.py, one object on every tile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shapely import Point
from shapely.geometry import mapping

from tools import make_tiles


def main(job: dict[str, Any]) -> int:
    out, half = Path(job["out"]), job["side_l0"] / 2
    properties = {"objectType": "annotation", "classification": {"name": "Glomerulus"}}
    circles = [mapping(Point(x + half, y + half).buffer(half / 3)) for x, y in job["places"]]
    features = [{"type": "Feature", "geometry": circle, "properties": properties} for circle in circles]
    (out / "objects.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (out / "slides.csv").write_text(f"slide,annotation,split\n{job['slide']},objects.geojson,train\n")
    values = {"teacher-mpp": job["mpp"], "student-mpp": job["student_mpp"], "tile-px": job["tile_px"]}
    values |= {"workers": job["workers"], "overlap": 0, "keep-empty": 1, "min-tissue": job["min_tissue"]}
    values |= {"max-misplaced": 1}  # one object on every tile, of whatever size that gives
    options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return make_tiles.main([str(out / "slides.csv"), "--output-dir", str(out), *options])


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))

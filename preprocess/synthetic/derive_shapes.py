"""Derive the small glomerulus shape model from a folder of QuPath GeoJSON outlines.

Run once, from the repository root, with the folder of the real outlines (0.25 um per pixel):

    python -m preprocess.synthetic.derive_shapes FOLDER

It writes ``data/glomerulus_shapes.json`` beside this file: normalised contours (distance from the centroid in
``NUM_ANGLES`` directions, in thousandths of the radius of the circle of equal area) and the quantiles of the
equal-area diameter in um. No pixel and no outline of the source is kept as such.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import LineString, Polygon, shape

from preprocess.base.console import run_main
from preprocess.base.errors import UserError
from preprocess.base.files import write_text

SOURCE_MPP = 0.25
NUM_ANGLES = 48
NUM_QUANTILES = 41
CONTOURS_PER_CLASS = {"Normal": 170, "Sclerotic": 50}
DATA_FILE = Path(__file__).with_name("data") / "glomerulus_shapes.json"
SOURCE = "https://github.com/shuheimisawa/glomeruli_segmentation (kidney_analysis_banff/data/final/annotations)"
MIT_NOTICE = (
    "MIT License. Copyright (c) 2025 shuheimisawa. Permission is hereby granted, free of charge, to any person "
    'obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software '
    "without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, "
    "sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do "
    "so, subject to the following conditions: The above copyright notice and this permission notice shall be included "
    'in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY '
    "KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A "
    "PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY "
    "CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR "
    "IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."
)


def radius_profile(polygon: Polygon, num_angles: int = NUM_ANGLES) -> np.ndarray:
    """Farthest distance from the centroid to the outline in ``num_angles`` directions, over the equal-area radius."""
    radius = np.sqrt(polygon.area / np.pi)
    x, y = polygon.centroid.coords[0]
    profile = []
    for angle in np.arange(num_angles) * 2 * np.pi / num_angles:
        far = 6 * radius
        crossing = LineString([(x, y), (x + far * np.cos(angle), y + far * np.sin(angle))]).intersection(polygon)
        points = [point for part in getattr(crossing, "geoms", [crossing]) for point in part.coords]
        profile.append(max((np.hypot(px - x, py - y) for px, py in points), default=0.0))
    return np.asarray(profile) / radius


def read_polygons(folder: Path) -> dict[str, list[Polygon]]:
    """The outlines of every ``*.geojson`` in ``folder``, by class name, in the source's pixels."""
    files = sorted(folder.glob("*.geojson"))
    if not files:
        raise UserError("no *.geojson file in this folder", path=folder)
    polygons: dict[str, list[Polygon]] = {name: [] for name in CONTOURS_PER_CLASS}
    for file in files:
        for feature in json.loads(file.read_text(encoding="utf-8"))["features"]:
            name = (feature["properties"].get("classification") or {}).get("name")
            outline = shape(feature["geometry"])
            if name in polygons and outline.geom_type == "Polygon" and outline.is_valid:
                polygons[name].append(outline)
    return polygons


def derive(polygons: dict[str, list[Polygon]]) -> dict[str, Any]:
    """The shape model: per class evenly spaced contours (by elongation) and the diameter quantiles in um."""
    classes = {}
    for name, outlines in polygons.items():
        diameters = 2 * np.sqrt(np.array([outline.area for outline in outlines]) / np.pi) * SOURCE_MPP
        profiles = np.array([radius_profile(outline) for outline in outlines])
        usable = np.flatnonzero((profiles.min(axis=1) > 0.45) & (profiles.max(axis=1) < 1.7))
        order = usable[np.argsort(profiles[usable].std(axis=1), kind="stable")]
        kept = order[np.linspace(0, len(order) - 1, min(CONTOURS_PER_CLASS[name], len(order))).round().astype(int)]
        quantiles = np.quantile(diameters, np.linspace(0, 1, NUM_QUANTILES))
        classes[name] = {
            "count": len(outlines),
            "diameter_quantiles_um": [round(float(value), 1) for value in quantiles],
            "radius_profiles_permille": (profiles[kept] * 1000).round().astype(int).tolist(),
        }
    return {"source": SOURCE, "licence": MIT_NOTICE, "derived_with": Path(__file__).stem, "classes": classes}


def main(argv: list[str] | None = None) -> int:
    """Write the shape model derived from the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of QuPath GeoJSON files at 0.25 um per pixel")
    write_text(DATA_FILE, json.dumps(derive(read_polygons(parser.parse_args(argv).folder))) + "\n")
    return 0


if __name__ == "__main__":
    run_main(main)

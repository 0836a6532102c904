"""The slide that inference is timed on: 40,000 x 40,000 px at 0.25 um/px, put together from 16 fields of the demo's."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from preprocess.base.console import HelpFormatter, progress, run_main
from preprocess.base.files import write_json
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.slides import outlines_geojson, paint_slide
from preprocess.synthetic.svs import write_svs

MPP = 0.25
FIELD_PX = 10_000
_STAINS_AND_KINDS = (("PAS", "wedge"), ("HE", "cores"), ("PAS", "cores"), ("HE", "wedge"))


def field_spec(index: int, side_px: int = FIELD_PX) -> SlideSpec:
    """The specification of one field; stains and kinds of specimen take turns, and shift by one from row to row."""
    stain, kind = _STAINS_AND_KINDS[(index + index // 4) % 4]
    return SlideSpec(
        name=f"field{index:02d}",
        patient="benchmark",
        split="test",
        seed=index,
        stain=stain,
        kind=kind,
        size_px=(side_px, side_px),
        mpp=MPP,
        glomeruli=(8, 18),
    )


def make_large_slide(path: Path, *, side: int = 4, field_px: int = FIELD_PX) -> Path:
    """Write an Aperio-style slide of ``side`` x ``side`` fields to ``path`` (.svs), and its outlines beside (.geojson).

    Needs 3 bytes a pixel of disk beside the slide for as long as it runs. Returns the path of the outlines.
    """
    features = []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        shape = (side * field_px, side * field_px, 3)
        image = np.memmap(Path(folder, "pixels"), dtype=np.uint8, mode="w+", shape=shape)
        for index in progress(range(side**2), description="fields", unit="field"):
            spec, (row, column) = field_spec(index, field_px), divmod(index, side)
            field = paint_slide(spec)
            top, left = row * field_px, column * field_px
            image[top : top + field_px, left : left + field_px] = field.image
            for feature in outlines_geojson(spec, field)["features"]:
                ring = np.array(feature["geometry"]["coordinates"][0]) + np.array((left, top))
                feature["geometry"]["coordinates"] = [np.round(ring, 1).tolist()]
                features.append(feature)
        write_svs(path, image, mpp=MPP, objective_power=40)
    outlines = path.with_suffix(".geojson")
    write_json(outlines, {"type": "FeatureCollection", "features": features})
    return outlines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("slide", type=Path, help="the .svs to write; some 900 MB, and 5 GB beside while it is made")
    print(f"outlines: {make_large_slide(parser.parse_args(argv).slide)}")
    return 0


if __name__ == "__main__":
    run_main(main)

"""pyvips: the whole slide reduced by area average and saved as one layer of tiles, glass as well."""

import json
import os
import sys
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())
os.environ["VIPS_CONCURRENCY"] = str(job["workers"])  # before the library is loaded

import pyvips  # noqa: E402

slide = pyvips.Image.new_from_file(job["slide"], access="sequential").flatten(background=255)
factor = job["side_l0"] / job["tile_px"]
reduced = slide.shrink(factor, factor) if factor == round(factor) else slide.resize(1 / factor)
options = f"[Q={job['quality']},subsample_mode=on]"
reduced.dzsave(f"{job['out']}/grid", tile_size=job["tile_px"], overlap=0, depth="one", suffix=f".jpg{options}")

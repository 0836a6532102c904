"""hs2p by its command line: finds the tissue and saves its tiles in a tar file."""

import json
import subprocess
import sys
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())
out = Path(job["out"])
(out / "slides.csv").write_text(f"sample_id,image_path\nslide,{job['slide']}\n")
(out / "config.yaml").write_text(f"""
csv: {out}/slides.csv
output_dir: {out}
save_tiles: true
tiling:
  backend: {job["hs2p_backend"]}
  params: {{requested_spacing_um: {job["mpp"]}, requested_tile_size_px: {job["tile_px"]}}}
  preview: {{save_mask_preview: false, save_tiling_preview: false}}
  masks: {{min_coverage: {{tissue: {job["min_tissue"]}}}}}
speed: {{num_workers: {job["workers"]}}}
""")
command = [str(Path(sys.executable).with_name("hs2p")), str(out / "config.yaml"), "--skip-datetime", "--skip-logging"]
sys.exit(subprocess.run(command, stdout=subprocess.DEVNULL).returncode)

"""A training table of procedural slides and a few real images, each of these several times in other stains."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.files import relative_path, write_csv, write_text
from preprocess.base.images import write_image
from preprocess.slides.table import read_slides_csv
from preprocess.synthetic.restain import read_rgb, restain
from preprocess.synthetic.stain import STAIN_TURNS
from preprocess.tiles.splits import balance_splits

_COLUMNS = ["slide", "annotation", "mpp", "patient", "split", "stain", "source"]
_SPREADS = (1.0, 3.0)


def read_real(path: Path, source: str | None, fractions: tuple[float, float, float]) -> pd.DataFrame:
    """Rows of the table ``path`` (of ``source``, if one is named), split by patient where the table does not do so.

    Raises UserError where nothing is left, or where an image has no annotation.
    """
    table = read_slides_csv(path)
    if source is not None:
        if "source" not in table:
            raise UserError("no column source", path=path, remedy="leave out --source")
        table = table[table["source"] == source].reset_index(drop=True)
    if table.empty:
        raise UserError(f"no image of the source {source}", path=path, remedy="check --source")
    if table["annotation"].isna().any():
        raise UserError("an image has no annotation", path=path, remedy="give every real image its outlines")
    if table["split"].isna().all():
        # A published set, which does not grow: exact shares of its few patients.
        patients = table["patient"].fillna(table["slide"]).tolist()
        table["split"] = balance_splits(patients, fractions, seed=0)
    return table


def mix(procedural: Path, real: pd.DataFrame, output: Path, *, copies: int, seed: int) -> pd.DataFrame:
    """Write the table ``output`` of the procedural cohort's slides, the real images and their restained copies.

    Training images alone get ``copies`` each, as PNG in a folder beside the table; the same ``seed`` gives the same
    bytes. Paths are relative to the table. Returns the table.
    """
    slides = read_slides_csv(procedural).assign(source="procedural")
    rows = [*slides.to_dict("records"), *real.to_dict("records")]
    for row in real[real["split"] == "train"].to_dict("records"):
        rows += _copies(row, output.parent / "restained", copies, seed)
    table = pd.DataFrame(rows)[_COLUMNS]
    for column in ("slide", "annotation"):
        table[column] = table[column].map(lambda path: relative_path(path, output.parent), "ignore")
    write_csv(output, table)
    return table


def _copies(row: dict[str, object], folder: Path, copies: int, seed: int) -> list[dict[str, object]]:
    """Write the copies of one image, with its outlines, and return their rows."""
    image = read_rgb(str(row["slide"]))
    outlines = Path(str(row["annotation"])).read_text(encoding="utf-8")
    made = []
    for index, stain in enumerate(islice(cycle(STAIN_TURNS), copies)):
        path = folder / f"{Path(str(row['slide'])).stem}-{index:02d}.png"
        rng = np.random.default_rng([seed, index, *path.name.encode()])
        write_image(path, restain(rng, image, stain, rng.uniform(*_SPREADS)))
        write_text(path.with_suffix(".geojson"), outlines)
        made.append({**row, "slide": path, "annotation": path.with_suffix(".geojson"), "stain": stain})
    return made

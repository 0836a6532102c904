"""HuBMAP, "Hacking the Human Vasculature" (2023): tiles of 512 px, PAS, with glomeruli among other outlines.

Folder: ``train/ID.tif``, ``polygons.jsonl`` (a line per annotated tile), ``tile_meta.csv`` (id, source_wsi, dataset, i,
j) and ``wsi_meta.csv`` (source_wsi and what is stated of the donor).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.files import write_text
from preprocess.cohorts.cohort_table import (
    DOWNLOAD_AGAIN,
    CohortTable,
    Fractions,
    by_name,
    files_below,
    inspect_slide,
    read_cohort_csv,
    short_list,
    table_row,
    with_splits,
)

POLYGONS, TILES, SLIDES = "polygons.jsonl", "tile_meta.csv", "wsi_meta.csv"
FRACTIONS = (0.5, 0.25, 0.25)  # four donors
_EXPERT = "1"


def build(folder: Path, extras: Path, *, mpp: float | None = None, fractions: Fractions | None = None) -> CohortTable:
    """The annotated tiles below ``folder``, dealt by donor; a :class:`preprocess.cohorts.cohort_table.Builder`.

    Slides with the same data (age, sex, height, ...) count as one donor's. Each tile's line is written to a file
    of its own in ``extras``, since reading all of them for each tile takes hours.
    """
    lines = _lines(_find_file(folder, POLYGONS))
    meta = read_cohort_csv(_find_file(folder, TILES), ["id", "source_wsi", "dataset"]).set_index("id")
    donors = _donors(read_cohort_csv(_find_file(folder, SLIDES), ["source_wsi"]))
    # The download's test/ holds a copy of a training tile, to show the form of the hidden ones.
    images = by_name(path for path in files_below(folder, "*.tif", "*.tiff") if path.parent.name != "test")
    for what, missing in (
        ("images of annotated tiles are missing", set(lines) - set(images)),
        (f"annotated tiles have no row in {TILES}", set(lines) - set(meta.index)),
        (f"slides of {TILES} have no row in {SLIDES}", set(meta["source_wsi"]) - set(donors)),
    ):
        if missing:
            raise UserError(f"{len(missing)} {what}: {short_list(sorted(missing))}", path=folder, remedy=DOWNLOAD_AGAIN)
    rows = []
    for name in progress(sorted(lines), description="looking at tiles", unit="tile"):
        info = inspect_slide(images[name], mpp)
        annotation, stated = extras / f"{name}.json", meta.loc[name]
        write_text(annotation, lines[name])
        reviewed = "yes" if stated["dataset"] == _EXPERT else "no"
        donor = donors[stated["source_wsi"]]
        rows.append(table_row(images[name], annotation, info, donor, stain="PAS", reviewed=reviewed))
    notes = []
    if bare := len(set(images) - set(lines)):
        notes.append(f"{bare} tiles without annotations are left out")
    if sparse := sum(row["reviewed"] == "no" for row in rows):
        notes.append(
            f"{sparse} of {len(rows)} tiles were annotated sparsely and not reviewed: not every object is there"
        )
    return CohortTable(with_splits(rows, fractions or FRACTIONS), tuple(notes))


def _find_file(folder: Path, name: str) -> Path:
    found = files_below(folder, name)
    if not found:
        raise UserError(f"no {name}", path=folder, remedy=DOWNLOAD_AGAIN)
    return found[0]


def _lines(path: Path) -> dict[str, str]:
    """The lines of ``path`` by the tile they are of."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found[str(json.loads(line)["id"])] = line + "\n"
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"line {number} is damaged: {error}", path=path, remedy=DOWNLOAD_AGAIN) from error
    return found


def _donors(slides: pd.DataFrame) -> Mapping[str, str]:
    """A name for the donor of each slide: the slides of which the same is stated, joined by ``+``."""
    stated = [column for column in slides if column != "source_wsi"]
    groups = slides.groupby(stated)["source_wsi"] if stated else [((), slides["source_wsi"])]
    return {slide: "wsi" + "+".join(sorted(group)) for _, group in groups for slide in group}

"""Finished runs of controls as rows of a table that is kept, and that table as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.ablation.report import SCORES, markdown_table, number, spread
from mhkd.ablation.runner import RESULT_FILE, seconds_per_iteration
from mhkd.ablation.table import PLAIN, TEACHER, in_order
from mhkd.config import read_config
from mhkd.engine.run_record import CONFIG_FILE, RECORD_FILE
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv
from preprocess.tiles.manifest import Manifest

SIZES = ("<100", "100-150", "150-200", ">=200")
KEYS = ("control", "iterations", "labelled slides", "unlabelled slides", "um/px", "u")
COLUMNS = (
    *("control", "seed", *KEYS[1:]),
    *SCORES,
    *(f"recall {size} um" for size in SIZES),
    *("s of training", "s per slide", "objects", "split", "commit"),
)


def evidence_rows(folders: Sequence[Path]) -> pd.DataFrame:
    """A row for each finished run below ``folders``, output folders of ``mhkd ablate``, with ``COLUMNS``.

    Scores are in percent; seconds of training are the median of an iteration times their number.

    Raises:
        UserError: there is none, or the tiles that one was trained on are gone.
    """
    files = sorted(file for folder in folders for file in folder.glob(f"*/seed*/{RESULT_FILE}"))
    # A teacher of another folder (--teachers) is a row of that folder's.
    files = [file for file in files if file.parts[-3] != TEACHER or (file.parent / CONFIG_FILE).is_file()]
    if not files:
        raise UserError("no finished run", path=folders[0], remedy="name output folders of mhkd ablate")
    return pd.DataFrame([_row(file) for file in files], columns=list(COLUMNS))


def add_evidence(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` in the table ``path``, in the place of those of the same control, seed and keys; the table.

    Raises:
        UserError: the table is not one of evidence.
    """
    table = read_evidence(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))
    both = pd.concat([table, rows], ignore_index=True) if len(table) else rows
    both = both.drop_duplicates([*KEYS, "seed", "split"], keep="last")
    order = {name: place for place, name in enumerate(in_order(both["control"]))}
    by = ["u", "unlabelled slides", "labelled slides", "control", "iterations", "split", "seed"]
    both = both.sort_values(by, key=lambda c: c.map(order) if c.name == "control" else c, kind="stable")
    write_csv(path, both)
    return read_evidence(path)


def read_evidence(path: Path) -> pd.DataFrame:
    """The table ``path``. Raises UserError where it is none of evidence."""
    try:
        table = pd.read_csv(path, dtype={"control": str, "commit": str, "split": str})
    except (OSError, ValueError) as error:
        raise UserError(f"no readable table: {error}", path=path) from error
    if list(table.columns) != list(COLUMNS):
        raise UserError("not a table of evidence", path=path, remedy="make it with mhkd evidence add")
    return table


def evidence_markdown(table: pd.DataFrame, chosen: Sequence[str] = ()) -> str:
    """A row for each of the controls ``chosen``, or for all, and its circumstances: means over seeds.

    Behind each mean stands the standard deviation. ``AP over plain`` is relative to *plain* with as many annotated
    slides, of the same seed, each seed in brackets; ``gap closed`` the share of the AP between *plain* and the *oracle*
    of the same u with as many slides, both of means.
    """
    measures = [*SCORES, *(f"recall {size} um" for size in SIZES)]
    rows = []
    for keys, group in table.groupby([*KEYS, "split"], sort=False, dropna=False):
        if chosen and keys[0] not in chosen:
            continue
        cells = [key if isinstance(key, str) else number(key, "{:g}") for key in keys[:-1]]
        cells += [str(len(group)), *(spread(group[name].mean(), group[name].std()) for name in measures)]
        cells += [_over_plain(table, group), _gap_closed(table, group)]
        rows.append([*cells, *(number(group[name].mean(), "{:.3g}") for name in ("s of training", "s per slide"))])
    heads = ["AP over plain", "gap closed", "s of training", "s per slide"]
    return markdown_table([*KEYS, "seeds", *measures, *heads], rows)


def _ap_of(table: pd.DataFrame, control: str, first: pd.Series, **same: Any) -> pd.Series:
    """AP by seed of ``control`` on the split and um/px of the row ``first``; of the longest where there are several."""
    same |= {"control": control, "split": first["split"], "um/px": first["um/px"]}
    rows = table[(table[list(same)] == pd.Series(same)).all(axis=1)].sort_values("iterations")
    return rows.drop_duplicates("seed", keep="last").set_index("seed")["AP"]


def _over_plain(table: pd.DataFrame, group: pd.DataFrame) -> str:
    first = group.iloc[0]
    plain = _ap_of(table, PLAIN, first, **{"labelled slides": first["labelled slides"]})
    gains = (100 * (group.set_index("seed")["AP"] / plain - 1)).dropna()
    if gains.empty or first["control"] == PLAIN:
        return "-"
    each = ", ".join(f"{gain:+.1f}" for gain in gains)
    return f"{gains.mean():+.1f} %" + f" ({each})" * (len(gains) > 1)


def _gap_closed(table: pd.DataFrame, group: pd.DataFrame) -> str:
    first = group.iloc[0]
    if not first["unlabelled slides"] > 0:
        return "-"
    labelled, total = first["labelled slides"], first["labelled slides"] + first["unlabelled slides"]
    plain = _ap_of(table, PLAIN, first, **{"labelled slides": labelled}).mean()
    oracle = _ap_of(table, "oracle", first, u=first["u"], **{"labelled slides": total}).mean()
    return number(100 * (group["AP"].mean() - plain) / (oracle - plain), "{:.0f} %") if oracle > plain else "-"


def _row(file: Path) -> dict[str, Any]:
    result, folder = json.loads(file.read_text(encoding="utf-8")), file.parent
    scores = result["scores"]
    seconds, iterations = seconds_per_iteration(folder), result["iterations"]
    bins = scores["by_size_um"]
    slides = _slides_of(folder) if (folder / CONFIG_FILE).is_file() else (None, None)
    return {
        **{name: result[name] for name in ("control", "seed", "iterations")},
        **dict(zip(KEYS[2:4], slides, strict=True)),
        "um/px": result["input_mpp"],
        "u": result.get("upsample"),
        **{name: _rounded(scores[name]) for name in SCORES},
        **{f"recall {size} um": _rounded(bins.get(size, {}).get("recall")) for size in SIZES},
        "s of training": None if seconds is None else round(seconds * iterations, 1),
        "s per slide": scores["seconds_per_slide"],
        "objects": scores["num_objects"],
        "split": result["inputs"]["split"],
        "commit": result["provenance"].get("git_commit"),
    }


def _slides_of(folder: Path) -> tuple[int, int]:
    """How many annotated and how many other slides the run in ``folder`` was trained on."""
    train = Manifest.read(read_config(folder / CONFIG_FILE).DATASETS.TILES).split("train").labelled()
    record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    return train.tiles["slide"].nunique(), record.get("pseudo_labels", {}).get("num_slides", 0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

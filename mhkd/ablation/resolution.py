"""What resolution is worth: the controls of several scales joined into curves against um/px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mhkd.ablation.report import COLUMNS, ENDS, SCORES, sort_controls, spread
from mhkd.ablation.table import TEACHER, control_of
from preprocess.base.errors import UserError

CSV = "controls.csv"
UNTRAINED = "untrained"
CURVES = (TEACHER, UNTRAINED, "independent", "strict", "phases1234", "phases1234_u1")
LABELS = {
    TEACHER: "HR teacher",
    UNTRAINED: "HR teacher on LR, untrained",
    "independent": "LR baseline, independent",
    "strict": "LR baseline, strict",
    "phases1234": "MHKD student (u = s)",
    "phases1234_u1": "MHKD student, native (u = 1)",
}
_KEY = ["control", "seed", "um/px"]


@dataclass(frozen=True)
class Resolution:
    """Curves of several controls.

    points: one row for each control and um/px with its ``seeds``, and for each of SCORES the mean over seeds,
    ``<score> sd``, and ``<score> low`` and ``<score> high``: the means over seeds of the ends of each run's 95 %
    bootstrap interval. missing: what there is no run of, as text. note: what was scored.
    """

    points: pd.DataFrame
    missing: tuple[str, ...]
    note: str

    @property
    def controls(self) -> list[str]:
        """Those with a point."""
        return list(self.points["control"].unique())

    def curve(self, control: str) -> pd.DataFrame:
        """The points of one control, from high to low resolution."""
        return self.points[self.points["control"] == control]


def read_resolution(tables: Sequence[str | Path], controls: Sequence[str] = CURVES) -> Resolution:
    """Join controls.csv of several runs of the controls, one a scale.

    tables: the files, or the folders that hold them. controls: which curves, in their order. The teacher may stand in
    every table; it has one um/px. Raises UserError for a table that is missing or older than its columns, and where
    two tables disagree about one run.
    """
    for name in controls:
        control_of(name)
    runs = pd.concat([_read(Path(table)) for table in tables])
    _check_repeated(runs)
    scales = sorted(runs.loc[runs["control"] != TEACHER, "um/px"].unique())
    runs = runs[runs["control"].isin(controls)].drop_duplicates(_KEY)
    if runs.empty:
        raise UserError(f"the tables hold no run of {', '.join(controls)}")
    groups = runs.groupby(["control", "um/px"])
    points = groups[[*SCORES, *ENDS]].mean()
    points[[f"{score} sd" for score in SCORES]] = groups[list(SCORES)].std()
    points.insert(0, "seeds", groups.size())
    points = sort_controls(points.reset_index(), controls, "um/px").reset_index(drop=True)
    return Resolution(points, _missing(points, controls, scales), _note(runs))


def markdown(resolution: Resolution) -> str:
    """The points as a Markdown table: mean +- standard deviation over seeds, and the interval in brackets."""
    heads = ["", "um/px", "seeds", *SCORES]
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---:|" + "---|" * len(SCORES)]
    for point in resolution.points.to_dict("records"):
        cells = [label(point["control"]), f"{point['um/px']:g}", f"{point['seeds']}"]
        cells += [_cell(point, score) for score in SCORES]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [resolution.note, *(["Not run: " + "; ".join(resolution.missing) + "."] if resolution.missing else [])]
    return "\n".join([*lines, "", *notes]) + "\n"


def label(control: str) -> str:
    """What a figure calls a control."""
    return LABELS.get(control, control)


def _read(path: Path) -> pd.DataFrame:
    file = path / CSV if path.is_dir() else path
    if not file.is_file():
        raise UserError("no table of controls", path=file, remedy="mhkd ablate writes it")
    frame = pd.read_csv(file)
    if absent := [column for column in COLUMNS if column not in frame]:
        raise UserError(
            f"the table lacks {absent[0]}",
            path=file,
            remedy="give mhkd ablate the same command again: it writes the table anew and trains nothing",
        )
    return frame


def _check_repeated(runs: pd.DataFrame) -> None:
    """The same run in two tables must have the same result, and every run must be scored on the same objects."""
    spread = runs.groupby(_KEY)["AP"].agg(lambda ap: ap.max() - ap.min())
    if len(differing := spread[spread > 1e-6]):
        control, seed, mpp = differing.index[0]
        raise UserError(f"the tables have different results of {control}, seed {seed}, at {mpp:g} um/px")
    counted = runs[["slides", "patients", "objects"]].drop_duplicates()
    if len(counted) > 1:
        raise UserError(
            f"the tables were scored on different slides: {' and '.join(str(n) for n in counted['objects'])} objects",
            remedy="join runs of one cohort and one split",
        )


def _missing(points: pd.DataFrame, controls: Sequence[str], scales: Sequence[float]) -> tuple[str, ...]:
    """Points at the students' ``scales`` (um/px) and seeds that others have; the teacher has an um/px of its own."""
    most = points["seeds"].max()
    found = {(row["control"], row["um/px"]): row["seeds"] for row in points.to_dict("records")}
    texts = [label(TEACHER)] if TEACHER in controls and TEACHER not in set(points["control"]) else []
    for control in controls:
        for mpp in scales if control != TEACHER else ():
            seeds = found.get((control, mpp), 0)
            if seeds < most:
                texts.append(
                    f"{label(control)} at {mpp:g} um/px" + (f" ({most - seeds} of {most} seeds)" * bool(seeds))
                )
    return tuple(texts)


def _note(runs: pd.DataFrame) -> str:
    first = runs.iloc[0]
    return (
        f"{first['slides']} slides, {first['patients']} patients, {first['objects']} objects. Percent on whole slides: "
        "mean +- standard deviation over seeds (95 % bootstrap interval by patient, the mean of the seeds' ends)."
    )


def _cell(point: dict, score: str) -> str:
    low, high = point[f"{score} low"], point[f"{score} high"]
    return spread(point[score], point[f"{score} sd"]) + ("" if pd.isna(low) else f" ({low:.1f} to {high:.1f})")

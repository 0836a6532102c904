"""The results of controls as CSV, a Markdown table with mean and standard deviation over seeds, and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from mhkd.ablation.table import PLAIN, STRICT, TEACHER, control_of, in_order
from preprocess.base.files import atomic_path, write_csv, write_text
from preprocess.base.images import RESULT_MARK

SCORES = ("AP", "AP50", "AP75", "F1", "centre_F1")
INDEPENDENT = "independent"
ENDS = tuple(f"{score} {end}" for score in SCORES for end in ("low", "high"))
COLUMNS = (
    *("control", "seed", "start", "iterations", "um/px"),
    *SCORES,
    *("s per slide", "s per iteration", "slides", "patients", "objects"),
    *ENDS,
)


def table(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a run, in the order of the table of controls; AP and F1 in percent, with 95 % intervals by patient."""
    rows = []
    for result in results:
        scores = result["scores"]
        intervals = scores.get("intervals") or {}
        ends = [end for score in SCORES for end in intervals.get(score) or (None, None)]
        rows.append(
            (
                *(result[key] for key in ("control", "seed", "start", "iterations", "input_mpp")),
                *(scores[score] for score in SCORES),
                *(scores["seconds_per_slide"], result.get("seconds_per_iteration")),
                *(scores["num_slides"], len(scores["by_patient"]), scores["num_objects"]),
                *ends,
            )
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return sort_controls(frame, in_order(frame["control"]), "seed")


def sort_controls(frame: pd.DataFrame, names: Iterable[str], then: str) -> pd.DataFrame:
    """The rows of ``frame`` in the order that ``names`` has of their controls, those of one control by ``then``."""
    order = {name: place for place, name in enumerate(names)}
    return frame.sort_values(["control", then], key=lambda c: c.map(order) if c.name == "control" else c)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a control: means and standard deviations, and AP against strict and independent, seed by seed.

    ``recovered`` is the share of the gap between strict and teacher that a control closes, of the means, in percent;
    ``gain over plain`` and ``gain over independent`` its AP over theirs, relative, in percent; ``cost`` its seconds per
    iteration, as a multiple of strict's.
    """
    groups = frame.groupby("control", sort=False)
    found = groups[["start", "iterations", "um/px"]].first().assign(seeds=groups.size())
    for score in SCORES:
        found[score], found[f"{score} sd"] = groups[score].mean(), groups[score].std()
    ap = frame.pivot(index="seed", columns="control", values="AP")
    if STRICT in ap:
        difference = ap.drop(columns=STRICT).sub(ap[STRICT], axis=0)
        found["over strict"], found["over strict sd"] = difference.mean(), difference.std()
    seconds = found["s per iteration"] = groups["s per iteration"].mean()
    if STRICT in seconds:
        found["cost"] = seconds / seconds[STRICT]
    means = found["AP"]
    if STRICT in means and TEACHER in means:
        found["recovered"] = 100 * (means - means[STRICT]) / (means[TEACHER] - means[STRICT])
    for baseline in (PLAIN, INDEPENDENT):
        if baseline in means:
            found[f"gain over {baseline}"] = 100 * (means / means[baseline] - 1)
    return found


def markdown(found: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    heads = ["control", "what", "um/px", "iterations", "seeds", *SCORES]
    heads += ["AP over strict", "gap recovered", "over plain", "over indep.", "s per iteration", "of strict's"]
    rows = []
    for name, row in found.iterrows():
        compared = name not in (TEACHER, STRICT)
        cells = [str(name), control_of(str(name)).text, f"{row['um/px']:g}", f"{row['iterations']}", f"{row['seeds']}"]
        cells += [spread(row[score], row[f"{score} sd"]) for score in SCORES]
        cells.append(spread(row.get("over strict"), row.get("over strict sd"), "+") if compared else "-")
        cells.append(number(row.get("recovered"), "{:.0f} %") if compared else "-")
        cells += ["-" if name == x else number(row.get(f"gain over {x}"), "{:+.1f} %") for x in (PLAIN, INDEPENDENT)]
        rows.append([*cells, number(row["s per iteration"], "{:.2f}"), number(row.get("cost"), "{:.2f}")])
    return markdown_table(heads, rows, text_columns=2)


def write_report(results: Sequence[dict[str, Any]], output_dir: Path) -> list[Path]:
    """Write controls.csv, controls.md and controls.png; their paths."""
    frame = table(results)
    found = summary(frame)
    paths = [output_dir / f"controls.{suffix}" for suffix in ("csv", "md", "png")]
    write_csv(paths[0], frame)
    scores = results[0]["scores"]
    note = (
        f"{scores['num_slides']} slides, {len(scores['by_patient'])} patients, {scores['num_objects']} objects of the "
        f"split {results[0]['inputs']['split']}. Percent on stitched slides, mean +- standard deviation over seeds. "
        "Every student has the same number of iterations and the same first weights (but plain, independent and _x). "
        "Seconds per iteration are medians of the runs' own logs, and hold whatever else the machine did."
    )
    write_text(paths[1], f"{markdown(found)}\n{note}\n")
    plot_ap(frame, paths[2], {"Software": RESULT_MARK})
    return paths


def plot_ap(frame: pd.DataFrame, path: Path, metadata: dict[str, str | None]) -> None:
    """AP of every run of ``frame`` (columns control and AP) as a dot, its mean as a bar; PNG or SVG by ``path``.

    The same runs give the same bytes.
    """
    groups = frame.groupby("control", sort=False)["AP"]
    means, deviations = groups.mean(), groups.std().fillna(0)
    with rc_context({"svg.hashsalt": "mhkd"}):
        figure = Figure(figsize=(8, 1.2 + 0.32 * len(means)), layout="constrained")
        axes = figure.subplots()
        axes.barh(means.index, means, xerr=deviations, color="#9ecae1", capsize=3)
        axes.scatter(frame["AP"], frame["control"], color="#08519c", s=14, zorder=3)
        for name, style in ((TEACHER, "-"), (STRICT, "--"), (PLAIN, ":")):
            if name in means:
                axes.axvline(means[name], color="black", linewidth=0.8, linestyle=style, label=name)
        axes.invert_yaxis()
        axes.set_xlabel("AP (IoU 0.5:0.95), percent, on whole slides; dots are seeds")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A Markdown table, with numbers, at the right of their cells, from column ``text_columns`` on."""
    rule = "|" + "---|" * text_columns + "---:|" * (len(heads) - text_columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def spread(mean: Any, deviation: Any, sign: str = "") -> str:
    """Mean and standard deviation over seeds, which one seed has not."""
    return number(mean, f"{{:{sign}.1f}}") + ("" if pd.isna(deviation) else f" +- {deviation:.1f}")


def number(value: Any, form: str) -> str:
    """``value`` in ``form``; ``-`` where there is none."""
    return "-" if pd.isna(value) else form.format(value)

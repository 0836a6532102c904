"""Evaluation results for people (Markdown tables) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocess.base.files import write_json, write_text

MARKDOWN, DATA = "evaluation.md", "evaluation.json"

Column = tuple[str, tuple[str, ...], int]  # heading, where the number is, decimals

_COLUMNS: tuple[Column, ...] = (
    ("um/px", ("input_mpp",), 2),
    ("tile AP", ("tiles", "AP"), 1),
    ("tile AP50", ("tiles", "AP50"), 1),
    ("tile AP75", ("tiles", "AP75"), 1),
    ("slide AP", ("slides", "AP"), 1),
    ("slide AP50", ("slides", "AP50"), 1),
    ("slide AP75", ("slides", "AP75"), 1),
    ("slide F1", ("slides", "F1"), 1),
    ("s per slide", ("slides", "seconds_per_slide"), 2),
)
_SLIDE_COLUMNS: tuple[tuple[str, tuple[str, ...], int, str], ...] = (  # and the name of its interval
    ("AP", ("AP",), 1, "AP"),
    ("AP50", ("AP50",), 1, "AP50"),
    ("F1", ("F1",), 1, "F1"),
    ("centre-hit F1", ("centre_F1",), 1, "centre_F1"),
    ("FROC per slide", ("froc", "per_slide", "mean"), 1, "froc_per_slide"),
    ("FROC per mm2", ("froc", "per_mm2", "mean"), 1, "froc_per_mm2"),
    ("count bias", ("counts", "bias"), 1, "count_bias"),
    ("ICC(2,1)", ("counts", "icc"), 3, "count_icc"),
)


def markdown_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per model, aligned for reading as plain text; ``-`` where a figure is missing or has no meaning."""
    headings, *_ = zip(*_COLUMNS, strict=True)
    rows = [[name, *(_cell(result, *column[1:]) for column in _COLUMNS)] for name, result in models.items()]
    return _aligned(["model", *headings], rows)


def slide_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """As :func:`markdown_table`, of whole slides: figures with their 95 % intervals, and limits of agreement."""
    rows = []
    for name, result in models.items():
        slides = result["slides"]
        cells = [" ".join(filter(None, _with_interval(slides, *column[1:]))) for column in _SLIDE_COLUMNS]
        rows.append([name, *cells, _limits(slides)])
    return _aligned(["model", *(column[0] for column in _SLIDE_COLUMNS), "limits of agreement"], rows)


def brief_table(slides: Mapping[str, Any]) -> str:
    """One model's figures of whole slides for the terminal, one below the other, with 95 % intervals."""
    rows = [[column[0], *_with_interval(slides, *column[1:])] for column in _SLIDE_COLUMNS]
    rows.append(["limits of agreement", _limits(slides), ""])
    for size, entry in slides["by_size_um"].items():
        interval = _with_interval(slides, ("by_size_um", size, "F1"), 1, f"F1_{size}_um")
        rows.append([f"F1, {size} um (n = {entry['num_objects']})", *interval])
    heading = f"{slides['num_objects']} objects, {slides['num_slides']} slides, {slides['num_patients']} patients"
    return _aligned([heading, f"score >= {slides['score_thresh']:.3g}", "95 % interval"], rows)


def _with_interval(slides: Mapping[str, Any], keys: tuple[str, ...], decimals: int, key: str) -> tuple[str, str]:
    """A figure, and its interval in brackets, or nothing."""
    ends = (slides.get("intervals") or {}).get(key)
    return _cell(slides, keys, decimals), f"({ends[0]:.{decimals}f} to {ends[1]:.{decimals}f})" if ends else ""


def _limits(slides: Mapping[str, Any]) -> str:
    return " to ".join(_cell(slides, ("counts", end), 1) for end in ("lower", "upper"))


def size_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Recall and F1 of each model by the objects' size."""
    sizes = next(iter(models.values()))["slides"]["by_size_um"]
    headings = [f"{size} um (n = {entry['num_objects']})" for size, entry in sizes.items()]
    return _aligned(["recall / F1 by size", *headings], _by_part(models, "by_size_um", ("recall", "F1")))


def class_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """AP, AP50 and F1 of each model by class; empty where there is one class only."""
    classes = next(iter(models.values()))["slides"].get("by_class", {})
    if len(classes) < 2:
        return ""
    headings = [f"{name} (n = {entry['num_objects']})" for name, entry in classes.items()]
    return _aligned(["AP / AP50 / F1 by class", *headings], _by_part(models, "by_class", ("AP", "AP50", "F1")))


def _by_part(models: Mapping[str, Mapping[str, Any]], by: str, figures: Sequence[str]) -> list[list[str]]:
    """A row per model: its name, and a cell with all ``figures`` for each size or class that ``by`` tells apart."""
    return [
        [name, *(" / ".join(_cell(part, (figure,), 1) for figure in figures) for part in result["slides"][by].values())]
        for name, result in models.items()
    ]


def confusion_tables(models: Mapping[str, Mapping[str, Any]]) -> str:
    """For each model, how often each true class (rows) was found as each class; empty where there is one class only."""
    tables = []
    for name, result in models.items():
        counts = result["slides"].get("confusion", {})
        headings = list(next(iter(counts.values()), {}))
        if len(headings) > 2:
            rows = [[true, *map(str, row.values())] for true, row in counts.items()]
            tables.append(_aligned([f"{name}: true \\ found", *headings], rows))
    return "\n".join(tables)


def comparison(models: Mapping[str, Any], differences: Mapping[str, Mapping[str, Any]]) -> str:
    """The last of ``models`` against each of the others, by AP on stitched slides; empty where there is no such AP.

    differences: as ``mhkd.evaluation.metrics.compare_last`` gives them.
    """
    found = {name: entry["AP"] for name, entry in differences.items()}
    if not found or any(entry["difference"] is None for entry in found.values()):
        return ""
    parts = []
    for name, entry in found.items():
        ends = entry["interval"]
        span = f" ({ends[0]:+.1f} to {ends[1]:+.1f})" if ends else ""
        parts.append(f"{name} {entry['difference']:+.1f}{span}")
    return f"Slide AP of {list(models)[-1]} against the others: {', '.join(parts)}.\n"


def write_results(output_dir: str | Path, results: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``evaluation.md`` and, last, ``evaluation.json``, each atomically; their paths.

    results: what evaluation.json holds: ``split``, ``models`` by name with their ``slides`` (``SlideMetrics.result``)
    and ``tiles``, ``differences`` (``compare_last``), and perhaps the slides ``left_out`` with the reason for each.
    """
    markdown, data = Path(output_dir) / MARKDOWN, Path(output_dir) / DATA
    models = results["models"]
    slides = next(iter(models.values()))["slides"]
    thresholds = ", ".join(
        f"{name} {result['slides']['score_thresh']:.3f} ({result['slides']['score_thresh_origin']})"
        for name, result in models.items()
    )
    note = (
        f"Split {results['split']}: {slides['num_slides']} slides, {slides['num_patients']} patients, "
        f"{slides['num_objects']} objects, {slides['tissue_mm2']:.1f} mm2 of tissue. AP (COCO, IoU 0.5:0.95, no limit "
        "of detections) and F1 (IoU 0.5, one to one, threshold fixed beforehand) in percent; slide figures are of "
        "whole stitched slides; seconds are the median.\n"
    )
    if draws := slides["bootstrap"]["draws"]:
        note += f"In brackets: 95 % intervals of {draws} bootstrap draws of patients.\n"
    else:
        note += "No intervals: they need two patients or more.\n"
    note += f"Score thresholds: {thresholds}.\n{comparison(models, results['differences'])}"
    if left_out := results.get("left_out"):
        note += f"Not evaluated: {', '.join(f'{name} ({reason})' for name, reason in left_out.items())}.\n"
    parts = [markdown_table(models), slide_table(models), size_table(models), class_table(models)]
    parts += [confusion_tables(models), note]
    write_text(markdown, "\n".join(part for part in parts if part))
    write_json(data, results)
    return markdown, data


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (headings, rule, *rows):
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _cell(result: Mapping[str, Any], keys: tuple[str, ...], decimals: int) -> str:
    value: Any = result
    for key in keys:
        value = (value or {}).get(key)
    return "-" if value is None else f"{value:.{decimals}f}"

"""Evaluation results for people (a Markdown table) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preprocess.files import write_json, write_text

_COLUMNS = (  # heading, where the number is, decimals
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


def markdown_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per model, aligned for reading as plain text; ``-`` where a figure is missing or has no meaning."""
    rows = [["model", *(heading for heading, _, _ in _COLUMNS)]]
    rows += [
        [name, *(_cell(result, keys, decimals) for _, keys, decimals in _COLUMNS)] for name, result in models.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in rows
    ]
    rule = "| " + " | ".join([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def comparison(models: Mapping[str, Mapping[str, Any]]) -> str:
    """The last model against each of the others, by AP on stitched slides; empty where there is no such figure."""
    found = {name: result["slides"]["AP"] for name, result in models.items()}
    *others, last = found
    if not others or None in found.values():
        return ""
    parts = (f"{name} {round(found[last], 1) - round(found[name], 1):+.1f}" for name in others)
    return f"Slide AP of {last} against the others: {', '.join(parts)}.\n"


def write_results(output_dir: str | Path, results: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``evaluation.md`` and, last, ``evaluation.json``, atomically; ``results`` holds the models by name."""
    markdown, data = Path(output_dir) / "evaluation.md", Path(output_dir) / "evaluation.json"
    counts = next(iter(results["models"].values()))["slides"]
    note = (
        f"Split {results['split']}: {counts['num_slides']} slides, {len(counts['by_patient'])} patients, "
        f"{counts['num_objects']} objects. AP (COCO, IoU 0.5:0.95) and F1 (IoU 0.5, threshold fixed beforehand) in "
        "percent; slide figures are of whole stitched slides; seconds are the median.\n"
    )
    note += comparison(results["models"])
    write_text(markdown, f"{markdown_table(results['models'])}\n{note}")
    write_json(data, results)
    return markdown, data


def _cell(result: Mapping[str, Any], keys: tuple[str, ...], decimals: int) -> str:
    value: Any = result
    for key in keys:
        value = (value or {}).get(key)
    return "-" if value is None else f"{value:.{decimals}f}"

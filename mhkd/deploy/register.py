"""A trained detector gets a name: its weights in half precision, its hash and its card in a table of models."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from mhkd.deploy.registry import TABLE, Entry, read_table
from mhkd.weights import read_export
from preprocess.base.errors import UserError
from preprocess.base.files import atomic_path, safe_name, sha256_of, write_text

MAX_BYTES = 20_000_000
"""What a repository can carry."""


def register_model(
    source: str | Path, folder: str | Path, name: str, card: dict[str, Any], *, score_thresh: float | None = None
) -> Entry:
    """Write the exported detector ``source`` to ``folder`` as ``<name>.pth`` and enter it into the folder's table.

    Convolutions and matrices are stored as float16, which :func:`mhkd.deploy.detector_file.load_detector` reads as
    float32; what is small and delicate (normalisation, biases) stays as it is. The file's provenance names the hash of
    ``source``. ``score_thresh`` takes the place of the one that training chose. The same source gives the same bytes.

    Raises:
        UserError: no exported detector, a name that cannot be a file's, no score, or a file above MAX_BYTES.
    """
    if safe_name(f"{name}.pth") != name:
        raise UserError(f"{name!r} cannot be the name of a model", remedy="use letters, digits, dots, - and _")
    if score_thresh is not None and not 0 <= score_thresh <= 1:
        raise UserError(f"a score threshold of {score_thresh:g} is not possible", remedy="give 0 to 1")
    content = read_export(source)
    content["model"] = {key: _halved(value) for key, value in content["model"].items()}
    content["provenance"] = {**content.get("provenance", {}), "full_precision_sha256": sha256_of(source)}
    if score_thresh is not None:
        content["score_thresh"] = score_thresh
        content["provenance"]["score_thresh_origin"] = "chosen when the model was given its name: see its card"
    stream = io.BytesIO()  # torch puts the name of the file that it writes into it: here there is none
    torch.save(content, stream)
    if stream.tell() > MAX_BYTES:
        raise UserError(f"{stream.tell() / 1e6:.1f} MB are too many to ship: at most {MAX_BYTES / 1e6:g}", path=source)
    path, table = Path(folder) / f"{name}.pth", Path(folder) / TABLE
    rows = read_table(table) if table.is_file() else {}
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())
    rows[name] = {"file": path.name, "sha256": sha256_of(path), "card": card}
    write_text(table, json.dumps({"models": rows}, indent=2, ensure_ascii=False) + "\n")
    return Entry(name, path, rows[name]["sha256"], card)


def read_card(path: str | Path) -> dict[str, Any]:
    """A card: a JSON object.

    Raises:
        UserError: ``path`` holds none.
    """
    try:
        card = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"not a readable card: {error}", path=path) from None
    if not isinstance(card, dict):
        raise UserError("a card is a JSON object", path=path)
    return card


def _halved(weights: torch.Tensor) -> torch.Tensor:
    """float16 where it is a matrix or a kernel whose values that can hold."""
    if weights.dtype != torch.float32 or weights.ndim < 2 or weights.abs().max() > torch.finfo(torch.float16).max:
        return weights
    return weights.half()

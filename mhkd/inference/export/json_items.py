"""JSON files with an item a line: what the formats that use them share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from preprocess.base.files import write_text


def write_items(path: str | Path, head: Mapping[str, Any], key: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Write the object ``head`` with the array ``items`` as its last entry, ``key``, atomically."""
    lines = ",\n".join(map(json.dumps, items))
    write_text(path, f'{json.dumps(head)[:-1]}, "{key}": [\n{lines}\n]}}\n')

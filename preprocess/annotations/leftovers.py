"""What is in a file beside the items that its format has: so that content that nobody reads is no empty file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from preprocess.annotations.annotation import Drawing, unused

# Four numbers or more, and nothing but numbers.
_COORDINATES = re.compile(r"\s*([-+\d.]+[\s,;]+){3,}[-+\d.]+[\s,;]*")


def unknown_elements(root: Element, known: Collection[str]) -> Iterator[Drawing]:
    """An unused item for each element below ``root`` of a kind that is not ``known`` and that says anything.

    What is within such an element is not counted again.
    """
    pending = [root]
    while pending:
        for child in pending.pop():
            if child.tag in known:
                pending.append(child)
            elif len(child) or child.attrib or _COORDINATES.fullmatch(child.text or ""):
                yield unused(f"unknown element {child.tag}")


def other_items(content: Mapping[str, Any], known: Collection[str]) -> Iterator[Drawing]:
    """An unused item for each object in the lists of ``content`` that are not under the ``known`` keys."""
    for key, value in content.items():
        if key not in known:
            yield from (unused(f"item of {key}") for _ in range(_num_items(value)))


def _num_items(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_num_items, value.values()))
    return sum(isinstance(item, dict) for item in value) if isinstance(value, list) else 0

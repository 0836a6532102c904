"""Refusals that every kind of pair shares."""

from __future__ import annotations

from typing import Any

from preprocess.errors import UserError


def one_of(known: dict[str, Any], name: str, key: str) -> Any:
    """``known[name]``; a UserError that names the config key where there is none."""
    if name not in known:
        raise UserError(f"{key} is {name!r}", remedy=f"use one of {', '.join(known)}")
    return known[name]


def check_classes(student: int, teacher: int) -> None:
    """Outputs are compared class by class."""
    if student != teacher:
        raise UserError(
            f"the student has {student} classes, the teacher {teacher}",
            remedy="train the teacher on these tiles, or set both MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_* to 0",
        )

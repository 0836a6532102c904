"""What slides are called in the outputs, and which neutral name is whose: a table to be kept apart from them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import pandas as pd

from preprocess.base.errors import UserError, printable
from preprocess.base.files import distinct_names, safe_name, write_csv
from preprocess.slides.files import check_file, fingerprint, neutral_name
from preprocess.slides.search import SlideFile


def name_slides(
    files: Sequence[SlideFile], outputs: Path, *, anonymize: bool = False, key: Path | None = None
) -> list[SlideFile]:
    """``files`` as the outputs in the folder ``outputs`` shall call them: by their names, or by neutral ones.

    Slides of the same name in several folders, or with several suffixes, are told apart (``distinct_names``).

    Args:
        anonymize: give neutral names.
        key: where to write which neutral name is whose.

    Raises:
        UserError: the key cannot be written where it is asked for.
    """
    if anonymize:
        named = anonymized(files)
    else:
        names = distinct_names([file.path.absolute() for file in files])
        named = [replace(file, label=name) for file, name in zip(files, names, strict=True)]
    if key is not None:
        write_key(key, files, named, outputs)
    return named


def anonymized(files: Sequence[SlideFile]) -> list[SlideFile]:
    """``files`` with neutral names that depend on the content of each slide alone, so that they stay from run to run.

    Patients are named after one of their slides: a hash of a patient's number could be found by trying all numbers.
    """
    contents = [content_of(file.path) for file in files]
    aliases = [neutral_name(content) if content else f"unreadable-{i}" for i, content in enumerate(contents, start=1)]
    named = sorted(zip(aliases, files, strict=True), reverse=True, key=itemgetter(0))
    first = {file.patient: alias for alias, file in named}
    return [
        replace(file, alias=alias, patient=file.patient and f"patient-of-{first[file.patient]}")
        for alias, file in zip(aliases, files, strict=True)
    ]


def content_of(path: Path) -> str | None:
    """The fingerprint of the slide ``path``; None where it cannot be read."""
    try:
        check_file(path)
        return fingerprint(path)
    except (OSError, UserError):
        return None


def place_of(path: Path) -> str:
    """A hash of where ``path`` lies: it tells slides of one name apart, and no folder."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()


def write_key(path: Path, files: Sequence[SlideFile], named: Sequence[SlideFile], outputs: Path) -> None:
    """Write the neutral name, the file and the patient of each of ``files`` to ``path``, atomically.

    Args:
        named: ``files`` as :func:`anonymized` names them.

    Raises:
        UserError: the slides have no neutral names, or the table would lie in the folder ``outputs``.
    """
    if not all(file.alias for file in named):
        raise UserError("there is no key without neutral names", remedy="give --anonymize as well, or leave --key out")
    if path.resolve().is_relative_to(outputs.resolve()):
        raise UserError(
            "the key would lie among the outputs", path=path, remedy="keep it where those who get them do not see it"
        )
    rows = [(new.name, str(old.path.absolute()), old.patient) for old, new in zip(files, named, strict=True)]
    write_csv(path, pd.DataFrame(rows, columns=["name", "slide", "patient"]))


def without_names(text: str, paths: Iterable[Path], shown: str, *, names: bool = True) -> str:
    """``text``, such as an error, with ``shown`` in place of ``paths``, their folders and their ``names``."""
    secrets: set[str] = set()
    for path in paths:
        for place in (path, path.absolute(), Path(os.path.realpath(path))):
            secrets.add(str(place))
            if len(place.parent.parts) > 1:  # a word alone may stand in any text
                secrets.add(str(place.parent))
            if names:
                secrets |= {place.name, place.stem, safe_name(place)}
    for secret in sorted(secrets - {".", "/"}, key=len, reverse=True):
        for form in (printable(secret), printable(" ".join(secret.split()))):  # as UserError states paths and reasons
            text = re.sub(rf"(?<![\w.]){re.escape(form)}(?!\w)", lambda _: shown, text)
    return text

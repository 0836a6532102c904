"""Which annotation file is of which slide: from a file, a folder or a table that a user names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from preprocess.annotations import hubmap_rle, via
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc
from preprocess.slides.search import TABLE_SUFFIXES, SlideFile, find_slides

_OUTLINES = (".geojson", ".json", ".jsonl", ".xml", ".annotations", ".ndpa", ".roi", ".zip")
_MASKS = (".png", ".tif", ".tiff")  # only where there are no outlines: mostly they are pictures of the slide


def annotated_as(
    files: Sequence[SlideFile], where: str | Path | None, class_map: str | Path | None, outputs: str | Path
) -> tuple[list[SlideFile], ClassMap]:
    """:func:`annotated`, and the classes of the YAML file ``class_map``, if any; without ``where`` files stay as is.

    Raises:
        UserError: as :func:`annotated`; or the map cannot be read, or there is one without annotations.
    """
    if where is None and class_map is not None:
        raise UserError("a class map is for annotations", path=class_map, remedy="give --evaluate as well, or leave it")
    classes = AS_ANNOTATED if class_map is None else ClassMap.read(class_map)
    return list(files) if where is None else annotated(files, where, outputs), classes


def annotated(files: Sequence[SlideFile], where: str | Path, outputs: str | Path) -> list[SlideFile]:
    """``files``, each with the annotation that ``where`` has for it, or without any.

    Args:
        where: the annotation file of the only slide; a folder, whose files are named as the slides are, such as
            ``a.geojson``, ``a.svs.geojson`` or ``a.xml`` for ``a.svs``; or a table as ``slides.csv`` (columns ``slide``
            and ``annotation``; its ``origin`` counts too, and its ``patient`` where the slides have none), whose rows
            are known by the slide's path or else by its name.
        outputs: the folder of the results, which are no annotations.

    Raises:
        UserError: there is no such file, none is for any of the slides, or two are for one.
    """
    path = Path(where)
    if path.resolve().is_relative_to(Path(outputs).resolve()):
        raise UserError("what is found there is no annotation", path=path, remedy="give annotations of another folder")
    if path.is_dir():
        found = [replace(file, annotation=_beside(file, path), origin=file.origin) for file in files]
        _check_owners(found)
    elif _is_table(path):
        found = _of_table(files, path)
    elif not path.is_file():
        raise UserError("no such annotations", path=path, remedy="give a file, a folder or a slides.csv")
    elif len(files) > 1:
        raise UserError(
            f"one annotation file for {len(files)} slides",
            path=path,
            remedy="give a folder with a file for each slide, or a slides.csv with the column annotation",
        )
    else:
        found = [replace(files[0], annotation=path)]
    if not any(file.annotation for file in found):
        example = files[0].path
        raise UserError(
            f"no annotation for any of the {len(files)} slides, such as {example.name}",
            path=path,
            remedy=f"name files as the slides are ({example.stem}.geojson), or fill slide and annotation of a table",
        )
    return found


def _is_table(path: Path) -> bool:
    """Whether it is a table of slides; one of run lengths or regions is an annotation file."""
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        header = stream.readline()
    return not (hubmap_rle.recognises(header) or via.recognises(header))


def _of_table(files: Sequence[SlideFile], path: Path) -> list[SlideFile]:
    rows = find_slides([path])
    by_path = {row.path.resolve(): row for row in rows}
    # A name that two rows or two slides share tells nothing.
    shared = Counter(row.name.casefold() for row in rows) + Counter(file.name.casefold() for file in files)
    by_name = {name: row for row in rows if shared[name := row.name.casefold()] <= 2}
    none = SlideFile(path)
    found = []
    for file in files:
        row = by_path.get(file.path.resolve()) or by_name.get(file.name.casefold()) or none
        found.append(replace(file, annotation=row.annotation, origin=row.origin, patient=file.patient or row.patient))
    return found


def _check_owners(files: Sequence[SlideFile]) -> None:
    """UserError where slides of the same name would share an annotation."""
    owner: dict[Path, SlideFile] = {}
    for file in files:
        if file.annotation and (other := owner.setdefault(file.annotation, file)) is not file:
            raise UserError(
                f"it might be of {other.path} and of {file.path}",
                path=file.annotation,
                remedy="say which in the columns slide and annotation of a slides.csv",
            )


def _beside(file: SlideFile, folder: Path) -> Path | None:
    """The file of ``folder`` that is named as the slide, with outlines or else a mask."""
    names = {nfc(name).casefold() for name in (file.path.stem, file.path.name)}
    for suffixes in (_OUTLINES, _MASKS):
        candidates = [
            path
            for path in sorted(folder.iterdir())
            if _parts(path)[0] in names and _parts(path)[1] in suffixes and path.resolve() != file.path.resolve()
        ]
        if len(candidates) > 1:
            raise UserError(
                f"{' and '.join(path.name for path in candidates[:2])} are both for {file.path.name}",
                path=folder,
                remedy="keep one of them there, or name the right one in the column annotation of a slides.csv",
            )
        if candidates:
            return candidates[0]
    return None


def _parts(path: Path) -> tuple[str, str]:
    """Name and suffix in lower case, without ``.gz``."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return nfc(plain.stem).casefold(), plain.suffix.lower()

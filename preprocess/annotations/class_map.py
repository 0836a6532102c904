"""From the classes that annotators used to those that a detector learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preprocess.annotations.annotation import Annotation
from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc
from preprocess.base.yaml_text import read_yaml_text

IGNORE, DROP = "ignore", "drop"
ALL = "*"
"""Among source names: every class without an entry of its own. As a label: a region to ignore, for all classes."""


@dataclass(frozen=True)
class ClassMap:
    """What becomes of each class: (source name, our name or ``ignore`` or ``drop``).

    ``ignore`` makes regions that are neither objects nor background; ``drop`` leaves them out. The source
    name ``*`` stands for all classes that have no entry of their own. Without it these keep their name. QuPath's
    ignored classes, which end in ``*``, are no objects unless they have an entry: ``Ignore*`` is ignored, others such
    as ``Region*`` are left out.
    """

    entries: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> ClassMap:
        """A map from a dictionary; the order of entries does not matter."""
        return cls(tuple(sorted(entries.items())))

    @classmethod
    def choose(cls, labels: Iterable[str] | None, merged: str | None) -> ClassMap:
        """Only the classes ``labels`` (None: all), and all of them as one class ``merged`` (None: as they are)."""
        if labels is None:
            return cls() if merged is None else cls.of({ALL: merged})
        return cls.of({label: label if merged is None else merged for label in labels} | {ALL: DROP})

    @classmethod
    def read(cls, path: str | Path) -> ClassMap:
        """A map from a YAML file of lines ``source name: our name``, all text. Raises UserError where it is none."""
        entries: dict[str, str] = {}
        for source, target in read_yaml_text(Path(path), "class map", _REMEDY).items():
            if not isinstance(target, str) or not target:
                raise UserError(f"{source!r} is mapped to {target!r}, which is no name", path=path, remedy=_REMEDY)
            is_keyword = target.lower() in {IGNORE, DROP}
            entries[source] = target.lower() if is_keyword else target
        return cls.of(entries)

    def apply(self, annotations: Sequence[Annotation]) -> Mapped:
        """``annotations`` under our names, in their order, and what was left out or not known."""
        targets = dict(self.entries)
        kept: list[Annotation] = []
        dropped: Counter[str] = Counter()
        unmapped: Counter[str] = Counter()
        for annotation in annotations:
            target = targets.get(nfc(annotation.label)) or _of_ignored_class(annotation.label) or targets.get(ALL)
            if target == DROP:
                dropped[annotation.label] += 1
            elif target == IGNORE:
                kept.append(replace(annotation, label=ALL, ignore=True))
            else:
                kept.append(replace(annotation, label=target or annotation.label))
                unmapped[annotation.label] += bool(targets) and target is None
        return Mapped(kept, dict(sorted(dropped.items())), dict(sorted((+unmapped).items())))


@dataclass(frozen=True)
class Mapped:
    """The outcome of a class map: annotations, and how many of which source class were left out or had no entry."""

    annotations: list[Annotation]
    dropped: dict[str, int]
    unmapped: dict[str, int]


AS_ANNOTATED = ClassMap()


def _of_ignored_class(label: str) -> str | None:
    """What becomes of QuPath's ignored classes where the map does not say; None for any other class."""
    if label == ALL or not label.endswith("*"):
        return None
    return IGNORE if label.lower() == "ignore*" else DROP


def spread_ignored(label: str, labels: Iterable[str]) -> list[str]:
    """The labels that a box of ``label`` stands for: regions to ignore are to be ignored for each class."""
    return sorted(labels) if label == ALL else [label]


_REMEDY = "write lines like  gs: Glomerulus,  Artefact: ignore,  Tissue: drop,  '*': drop"

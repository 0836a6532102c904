"""The options that say how slides are cut: on a command line, or in a file beside the configurations of training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from preprocess.annotations.class_map import ClassMap
from preprocess.annotations.origin import ORIGINS
from preprocess.base.arguments import amount, mpp, seed
from preprocess.base.configs import config_file
from preprocess.base.errors import UserError
from preprocess.base.yaml_text import Text, read_yaml_text
from preprocess.tiles.pairs import PairSpec

_BASE = "_BASE_"
_TYPES: dict[type, Any] = {int: seed, float: amount}  # PairSpec knows the range of each
_DEFAULT = ("", "null", "~")
_CLASSES = ("class_map", "labels", "merge_labels")
_REMEDY = "write lines such as  teacher_mpp: 2  with the names of the command's options"


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options that tiles depend on, each of which may stand in an options file, and that file's."""
    tiles = parser.add_argument_group("tiles", "how slides are cut; each option may also stand in --options-file")
    for one in fields(default := PairSpec(empty_ratio=1.0)):
        value, text = getattr(default, one.name), one.metadata["help"]
        tiles.add_argument(f"--{one.name.replace('_', '-')}", type=_TYPES[type(value)], default=value, help=text)
    tiles.add_argument("--class-map", type=Path, metavar="YAML", help="which classes become which; not with the next")
    tiles.add_argument("--labels", nargs="+", metavar="LABEL", help="use only objects of these classes (default: all)")
    tiles.add_argument("--merge-labels", metavar="NAME", help="give all objects this one class")
    tiles.add_argument("--split", default="0.7/0.15/0.15", help="train/val/test by patient, if the table has no split")
    tiles.add_argument("--stratify", metavar="COLUMN", help="column that each split gets its exact share of")
    tiles.add_argument(
        "--mpp", type=mpp, help="um per level-0 pixel where neither table nor slide says; before TIFF tags"
    )
    tiles.add_argument("--annotation-origin", choices=ORIGINS, help="where annotations count from: docs/slides.md")
    parser.add_argument("--options-file", type=Path, metavar="YAML", help="options of tiles; those given here win")
    parser.set_defaults(tile_options=[action.dest for action in tiles._group_actions])


def parse_tile_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options in ``argv`` (None: the process's), over those of its ``--options-file``, over the defaults.

    ``parser`` has the options of :func:`add_tile_options`. What ``argv`` says of classes replaces all that the file
    says of them. Raises UserError for an unknown key or a wrong value in the file.
    """
    args = parser.parse_args(argv)
    if args.options_file is None:
        return args
    actions = {action.dest: action for action in parser._actions if action.dest in args.tile_options}
    found = {name: _value(actions, name, *entry) for name, entry in read_options(args.options_file).items()}
    if any(getattr(args, name) for name in _CLASSES):
        found = {name: value for name, value in found.items() if name not in _CLASSES}
    parser.set_defaults(**found)
    return parser.parse_args(argv)


def read_options(path: Path) -> dict[str, tuple[Text, Path]]:
    """The entries of an options file and of those that its ``_BASE_`` names, each with the file that it stands in.

    As in the configurations of training, ``_BASE_`` is a path from the file's own folder, and what the file itself
    says wins. Raises UserError where a file is missing or no such file.
    """
    entries: dict[str, tuple[Text, Path]] = {}
    seen: list[Path] = []
    current: Path | None = config_file(path)
    while current is not None:
        if current.resolve() in seen:
            raise UserError(f"{_BASE} leads round in a circle", path=current, remedy="name another file")
        seen.append(current.resolve())
        content = _read_yaml(current)
        base = content.pop(_BASE, None)
        entries = {name: (value, current) for name, value in content.items()} | entries
        current = None if base is None else config_file(current.parent / str(base))
    return entries


def read_spec(args: argparse.Namespace) -> PairSpec:
    """The parsed options as the specification of tile pairs."""
    return PairSpec(**{one.name: getattr(args, one.name) for one in fields(PairSpec)})


def read_classes(args: argparse.Namespace) -> ClassMap:
    """The parsed options as a class map; UserError where two of them say what becomes of classes."""
    if args.class_map is None:
        return ClassMap.choose(args.labels, args.merge_labels)
    if args.labels or args.merge_labels:
        raise UserError("--class-map does what --labels and --merge-labels do", remedy="put all into the class map")
    return ClassMap.read(args.class_map)


def _read_yaml(path: Path) -> dict[str, Text]:
    if not path.is_file():
        raise UserError("no such file of tile options", path=path, remedy=f"copy configs/demo/tiles.yaml, or {_REMEDY}")
    return read_yaml_text(path, "file of tile options", _REMEDY)


def _value(actions: dict[str, argparse.Action], name: str, value: Text, path: Path) -> Any:
    """What the command line would make of ``value``; null is the default, and a path is from the folder of the file."""
    if name not in actions:
        raise UserError(f"unknown option {name!r}", path=path, remedy=f"the options are {', '.join(actions)}")
    action = actions[name]
    if value in _DEFAULT:
        return action.default
    if isinstance(value, list) != bool(action.nargs):
        raise UserError(
            f"{name} is {value!r}, not {'a list' if action.nargs else 'one value'}", path=path, remedy=_REMEDY
        )
    convert: Any = action.type or str
    try:
        values = [convert(one) for one in (value if action.nargs else [value])]
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UserError(f"{name}: {error}", path=path, remedy=_REMEDY) from None
    for one in values:
        if action.choices is not None and one not in action.choices:
            raise UserError(f"{name} is {one!r}", path=path, remedy=f"choose one of {', '.join(action.choices)}")
    if convert is Path:
        values = [path.parent / one for one in values]
    return values if action.nargs else values[0]

"""YAML as people write it: every scalar stays the text that it is."""

from __future__ import annotations

from pathlib import Path

import yaml

from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc, read_text

Text = str | list[str]


def read_yaml_text(path: Path, what: str, remedy: str) -> dict[str, Text]:
    """The entries of the mapping in ``path``: texts (NFC), or lists of them.

    YAML 1.1 would make a truth value of ``No`` and ``on``, a number of ``007`` and nothing of ``null``, which may all
    be names. Raises UserError where the file is not readable or no mapping, or has a key twice or something deeper.

    Args:
        what: the kind of file, for errors.
        remedy: what is said with each of them.
    """
    try:
        node = yaml.compose(read_text(path), Loader=yaml.BaseLoader)
    except (OSError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"no readable {what}: {error}", path=path, remedy=remedy) from error
    except UserError as error:
        raise UserError(f"no readable {what}: {error.reason}", path=path, remedy=remedy) from error
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise UserError(f"a {what} without entries", path=path, remedy=remedy)
    entries: dict[str, Text] = {}
    for key, value in node.value:
        line = f"line {key.start_mark.line + 1}"
        name, text = _text(key), _text(value)
        if not isinstance(name, str) or text is None:
            raise UserError(f"{line} is no pair of a name and a text", path=path, remedy=remedy)
        if name in entries:
            raise UserError(f"{line} has {name!r} again", path=path, remedy=remedy)
        entries[name] = text
    return entries


def _text(node: yaml.Node) -> Text | None:
    if "python" in node.tag:
        return None
    if isinstance(node, yaml.ScalarNode):
        return nfc(str(node.value).strip())
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [nfc(str(item.value).strip()) for item in node.value]
    return None

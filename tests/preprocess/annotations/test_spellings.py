"""The same annotations as other programs would write them: the same objects, or one clear line, never fewer."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import zipfile

import pytest

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError
from tests.fuzzing import FRAME, annotation_seeds


def zipped(data, name="a"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def decoded(change):
    """A change of the text of XML, JSON or a table; other files stay."""

    def of_bytes(data):
        return change(data.decode()).encode() if data[:1] in b"<{[if" and not data.startswith(b"Iout") else data

    return of_bytes


def of_names(spell):
    """Tags and attributes of XML, or keys of JSON, spelt otherwise."""
    tags = re.compile(r"(?<=<)/?[A-Za-z_]+|(?<= )[A-Za-z]+(?==\")")
    keys = re.compile(r'(?<=")[A-Za-z_]+(?=":)')
    return decoded(lambda text: (tags if text.startswith("<") else keys).sub(lambda match: spell(match[0]), text))


def of_json(change):
    return decoded(lambda text: json.dumps(change(json.loads(text))) if text[:1] in "{[" and "\n" not in text else text)


def as_text(value):
    """Every number as text."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value if value is None or isinstance(value, (str, bool)) else str(value)


SPELLINGS = {
    "lower case": of_names(str.lower),
    "upper case": of_names(str.upper),
    "a namespace": decoded(lambda text: re.sub(r"(?<=<)([A-Za-z_]+)", r'\1 xmlns="http://x"', text, count=1)),
    "UTF-16": decoded(str) and (lambda data: data.decode().encode("utf-16") if data[:1] in b"<{[i" else data),
    "numbers as text": of_json(as_text),
    "in a list": of_json(lambda value: [value]),
    "in another object": of_json(lambda value: {"type": "FeatureCollection", "version": 1, "data": value}),
    "a line": of_json(lambda value: value),
    "gzip": gzip.compress,
    "zip": zipped,
    "zip in gzip": lambda data: gzip.compress(zipped(data)),
    "an element around": decoded(lambda text: f"<Export>{text}</Export>" if text.startswith("<A") else text),
    "decimal comma": decoded(lambda text: re.sub(r'(?<=")(\d+)(?=")', r"\1,0", text) if text.startswith("<") else text),
}


@pytest.mark.parametrize("name", annotation_seeds())
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_objects_or_one_clear_line(tmp_path, name, spelling):
    seed = annotation_seeds()[name]
    path = tmp_path / "annotations"
    path.write_bytes(seed)
    right = read_annotations(path, FRAME)
    assert right
    path.write_bytes(SPELLINGS[spelling](seed))
    with contextlib.suppress(UserError):
        assert [a.polygon.bounds for a in read_annotations(path, FRAME)] == [a.polygon.bounds for a in right]

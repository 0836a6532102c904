from __future__ import annotations

import contextlib
import gzip
import json
import re

import pytest

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError
from tests.fuzzing import FRAME, annotation_seeds
from tests.preprocess.annotations.test_content import zipped

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><Annotations><Annotation Name='&i;'/></Annotations>"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the annotation file is empty"),
        (b" \n\t", "the annotation file is empty"),
        (b"hello", "unknown annotation format"),
        (b"<html></html>", "unknown annotation format"),
        (b'{"a": 1}', "unknown annotation format"),
        (b'["Feature"]', "unknown annotation format"),
        (b'[{"type": {}}]', "unknown annotation format"),
        (b'{"elements": [], "widgets": 3}', "unknown annotation format"),
        (b'{"shapes": [], "colour": "red"}', "unknown annotation format"),
        (b"<annotation><shape/></annotation>", "unknown annotation format"),
        (b"[" * 100_000, "damaged JSON"),
        (b"x\xff\xfe\x00\x80", "neither a known binary format nor text in UTF-8"),
        (b"<Annotations>\xe9</Annotations>", "damaged XML"),
        (b'<?xml version="1.0" encoding="klingon"?><a>', "damaged XML"),
        (b"<a>" * 200_000, "damaged XML"),
        (LAUGHS.encode(), "XML with entities is not read"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "XML with entities is not read"),
        (gzip.compress(b"[]")[:-6], "damaged gzip"),
        (b"\x1f\x8b\x08", "damaged gzip"),
    ],
)
def test_files_in_no_known_format(tmp_path, content, message):
    path = tmp_path / "file.geojson"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such annotation file"):
        read_annotations(tmp_path / "none.geojson")


def test_a_gzip_bomb_is_left_packed(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.annotations.content.MAX_BYTES", 1000)
    path = tmp_path / "bomb.geojson.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 2000 + b"]"))
    with pytest.raises(UserError, match="of annotations"):
        read_annotations(path)


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "file.xml"
    path.write_text("[]")
    assert len(read_annotations(path)) == 0


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
    "UTF-16": lambda data: data.decode().encode("utf-16") if data[:1] in b"<{[i" else data,
    "numbers as text": of_json(as_text),
    "in a list": of_json(lambda value: [value]),
    "in another object": of_json(lambda value: {"type": "FeatureCollection", "version": 1, "data": value}),
    "gzip": gzip.compress,
    "zip": lambda data: zipped(a=data),
    "zip in gzip": lambda data: gzip.compress(zipped(a=data)),
    "an element around": decoded(lambda text: f"<Export>{text}</Export>" if text.startswith("<A") else text),
    "decimal comma": decoded(lambda text: re.sub(r'(?<=")(\d+)(?=")', r"\1,0", text) if text.startswith("<") else text),
}


@pytest.mark.parametrize("name", annotation_seeds())
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_in_any_spelling_the_same_objects_or_one_clear_line(tmp_path, name, spelling):
    seed = annotation_seeds()[name]
    path = tmp_path / "annotations"
    path.write_bytes(seed)
    right = read_annotations(path, FRAME)
    assert right
    path.write_bytes(SPELLINGS[spelling](seed))
    with contextlib.suppress(UserError):
        assert [a.polygon.bounds for a in read_annotations(path, FRAME)] == [a.polygon.bounds for a in right]

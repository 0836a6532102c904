from __future__ import annotations

import gzip

import pytest

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError

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

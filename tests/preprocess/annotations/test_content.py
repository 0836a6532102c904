from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest

from preprocess.base.errors import UserError
from tests.preprocess.annotations import test_asap, test_geojson, test_halo, test_imagescope, test_mask

GEOJSON = json.dumps([test_geojson.feature("Polygon", [test_geojson.SQUARE], classification={"name": "Glomérule"})])


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        zipped(**{"objects.geojson": GEOJSON}),
        zipped(**{"a/": "", "a/b.json": GEOJSON, "__MACOSX/a/._b.json": b"\0\5", "a/.DS_Store": b"\0"}),
        zipped(**{"a.geojson.gz": gzip.compress(GEOJSON.encode())}),
        gzip.compress(zipped(**{"a.geojson": GEOJSON})),
        zipped(**{"a.geojson": GEOJSON.encode("utf-16")}),
    ],
    ids=["of QuPath", "of a Mac", "of a gzip", "in a gzip", "UTF-16"],
)
def test_the_only_file_of_a_zip_is_read(read, content):
    assert [a.label for a in read(content, name="a.zip")] == ["Glomérule"]


def test_a_mask_in_a_zip(read, frame):
    mask = test_mask.np.zeros((80, 100), test_mask.np.uint8)
    mask[10:20, 30:50] = 1
    assert read(zipped(**{"mask.png": test_mask.png(mask)}), frame)[0].polygon.bounds == (300, 100, 500, 200)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(**{"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}), r"a zip of 2 files: \[Content_Types"),
        (zipped(**{"xl/workbook.xml": "<x/>"}), "unknown annotation format"),
        (
            zipped(**{f"{i}.geojson": GEOJSON for i in range(5)}),
            "a zip of 5 files: 0.geojson, 1.geojson, 2.geojson, ...",
        ),
        (zipped(), "a zip of 0 files"),
        (zipped(a=zipped(b=zipped(c=GEOJSON))), "packed again and again"),
        (zipped(**{"a.geojson": GEOJSON})[:-9], "damaged zip"),
        (zipped(**{"a.geojson": b"[" + b" " * 5000}), "MiB of annotations"),
    ],
)
def test_other_zips_are_refused(read, monkeypatch, content, message):
    monkeypatch.setattr("preprocess.annotations.content.MAX_BYTES", 4096)
    with pytest.raises(UserError, match=message):
        read(content)


@pytest.mark.parametrize(
    "document",
    [
        test_imagescope.document(
            test_imagescope.layer(
                test_imagescope.region(test_imagescope.SQUARE),
                test_imagescope.region(test_imagescope.HOLE, negative=1),
            )
        ),
        test_halo.document(
            a=[test_halo.region(test_halo.SQUARE), test_halo.region([(10, 10), (20, 10), (20, 20)], negative=1)]
        ),
        test_asap.document(test_asap.annotation(test_asap.SQUARE)),
    ],
    ids=["ImageScope", "HALO", "ASAP"],
)
def test_xml_is_read_however_its_names_are_spelt(read, summary, document):
    first = document.index("Annotations")
    right = summary(read(document))
    head, tag = document[: first + len("Annotations")], document[first + len("Annotations") :]
    spaced = head + ' xmlns="http://www.aperio.com"' + tag
    for content in (
        spaced,
        document.lower().replace(right[0][0].lower(), right[0][0]),
        document.encode("utf-16"),
        b'<?xml version="1.0" encoding="utf-16"?>' + document.encode().replace(b'<?xml version="1.0"?>\n', b""),
    ):
        assert summary(read(content)) == right


def test_tables_in_utf_16(read, frame):
    assert len(read("id,encoding\nslide,1 20\n".encode("utf-16"), frame)) == 1


@pytest.mark.parametrize("encoding", ["gb2312", "shift_jis", "windows-1252", "utf-16"])
def test_xml_in_the_encoding_that_it_declares(read, encoding):
    label = {"gb2312": "\u80be\u5c0f\u7403", "shift_jis": "\u7cf8\u7403\u4f53"}.get(encoding, "Glom\u00e9rule")
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((0, 0), (10, 0), (10, 10)))
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><Annotations><Annotation Name="{label}"><Regions><Region>'
        f"<Vertices>{vertices}</Vertices></Region></Regions></Annotation></Annotations>"
    )
    assert [a.label for a in read(text.encode(encoding))] == [label]
    if encoding != "utf-16":
        assert [a.label for a in read(b"\r\n" + text.encode(encoding))] == [label]

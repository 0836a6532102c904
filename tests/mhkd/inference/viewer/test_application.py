from __future__ import annotations

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from werkzeug.test import Client

from mhkd.inference.viewer.application import STATIC, Application
from mhkd.inference.viewer.open_slides import OpenSlides
from preprocess.base.errors import UserError
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.readers.tiff import READER_VARIABLE


@pytest.fixture
def client(results) -> Client:
    return Client(Application(OpenSlides(results), ["localhost"]))


def picture(response) -> np.ndarray:
    assert response.content_type == "image/jpeg"
    return cv2.imdecode(np.frombuffer(response.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_page_and_all_that_it_loads_come_from_here(client):
    page = client.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    for name in set(STATIC) - {""}:
        assert f'"{name}"' in page.text
        assert client.get(f"/{name}").status_code == 200
    assert "://" not in page.text
    assert "://" not in client.get("/viewer.js").text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_the_library_that_is_shipped_is_the_one_that_the_docs_name(client):
    docs = (Path(__file__).parents[4] / "docs" / "report.md").read_text()
    code = client.get("/openseadragon.min.js").data
    assert hashlib.sha256(code).hexdigest() in docs
    assert len(code) < 300_000
    assert f"//! openseadragon {re.search(r'OpenSeadragon ([0-9.]+),', docs)[1]}\n".encode() in code


def test_slides_are_listed_with_what_was_found(client):
    assert client.get("/slides.json").json == [
        {"name": "discs", "slide": "discs.svs", "total": 5, "there": True},
        {"name": "part", "slide": "part.scn", "total": 1, "there": True},
        {"name": "zz-lost", "slide": "zz-lost.svs", "total": 5, "there": False},
    ]


def test_a_slide_tells_its_detections_and_neither_header_nor_path(client, svs_slide):
    response = client.get("/slides/0.json")
    slide = response.json
    assert [item["score"] for item in slide["detections"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert slide["detections"][0]["box"] == [240, 200, 360, 320]
    assert [item["name"] for item in slide["classes"]] == ["glomerulus", "sclerotic"]
    assert (slide["width"], slide["height"], slide["mpp"]) == (1500, 1200, 0.5)
    assert "ScanScope" not in response.text
    assert str(svs_slide.parent) not in response.text


def test_tiles_are_pictures_of_the_place_that_is_asked_for(client, slide_image):
    slide = client.get("/slides/0.json").json
    tile = picture(client.get(f"/slides/0/tiles/{slide['max_level']}/1_1.jpg?v=1"))
    assert tile.shape == (256, 256, 3)
    assert np.abs(tile.astype(int) - slide_image[253:509, 253:509]).mean() < 12
    assert picture(client.get(f"/slides/0/tiles/{slide['min_level']}/0_0.jpg")).shape == (150, 188, 3)


def test_each_detection_has_a_picture(client):
    for number in range(5):
        crop = picture(client.get(f"/slides/0/detections/{number}.jpg"))
        assert np.abs(crop[50:60, 50:60].mean(axis=(0, 1)) - (110, 50, 140)).max() < 12


@pytest.mark.parametrize(
    "address",
    [
        *(
            "/nothing",
            "/../setup.cfg",
            "/static/viewer.js",
            "/viewer.js/..",
            "/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
        ),
        *("/slides/3.json", "/slides/-1.json", "/slides/x.json", "/slides/0", "/slides/0/tiles/0/0_0.jpg"),
        *("/slides/0/tiles/99/0_0.jpg", "/slides/0/tiles/11/99_0.jpg", "/slides/0/tiles/11/-1_0.jpg"),
        *("/slides/0/detections/5.jpg", "/slides/0/detections/-1.jpg", "/slides/99999999999999999999.json"),
        *("/slides/0/label.jpg", "/slides/0/macro.jpg", "/slides/0/properties.json", "/discs.csv", "/discs.json"),
    ],
)
def test_all_else_is_not_there(client, address):
    response = client.get(address)
    assert response.status_code == 404
    assert response.json["error"]


def test_head_is_get_without_the_body_and_writing_is_refused(client):
    for address in ("/", "/slides.json", "/slides/0.json", "/slides/0/tiles/11/0_0.jpg"):
        head, got = client.head(address), client.get(address)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.data))
    for method in (client.post, client.put, client.delete, client.patch):
        assert method("/slides.json").status_code == 405


def test_a_page_from_elsewhere_cannot_ask_under_its_own_name(client):
    assert client.get("/slides.json", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/slides.json", headers={"Host": "localhost:8000"}).status_code == 200


def test_a_slide_that_is_missing_or_has_vanished_is_an_error_in_words(client, results, tmp_path):
    lost = client.get("/slides/2.json")
    assert lost.status_code == 500
    assert "zz-lost.svs: where this slide lies was not said" in lost.json["error"]
    (tmp_path / "part.scn").unlink()
    gone = client.get("/slides/1.json")
    assert gone.status_code == 500
    assert "no such slide" in gone.json["error"]
    (tmp_path / "out" / "discs.csv").write_text("damaged")
    assert "not a table of detections" in client.get("/slides/0.json").json["error"]


def test_an_unreadable_place_does_not_end_the_looking(client, monkeypatch):
    read = OpenSlideReader.read

    def damaged(reader, level, x, y, size):
        if x < 100:
            raise UserError("pixels not readable")
        return read(reader, level, x, y, size)

    monkeypatch.setenv(READER_VARIABLE, "openslide")
    monkeypatch.setattr(OpenSlideReader, "read", damaged)
    white = picture(client.get("/slides/0/tiles/11/0_0.jpg"))
    assert white[:, :90].min() == 255
    assert picture(client.get("/slides/0/tiles/11/2_1.jpg")).min() < 150


def test_what_changes_is_not_kept_by_the_browser_and_tiles_are(client):
    assert client.get("/slides.json").headers["Cache-Control"] == "no-store"
    assert "max-age" in client.get("/slides/0/tiles/11/0_0.jpg").headers["Cache-Control"]

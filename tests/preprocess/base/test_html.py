from __future__ import annotations

import base64

import jinja2
import pytest

from preprocess.base.html import jpeg_uri, render


def test_values_are_escaped_and_a_forgotten_one_is_an_error():
    values = {"text": "<b>&\"'", "columns": ["slide"], "long": (), "rows": []}
    page = render("preprocess.tiles", "summary.html", **values)
    assert "&lt;b&gt;&amp;&#34;&#39;" in page
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    with pytest.raises(jinja2.UndefinedError):
        render("preprocess.tiles", "summary.html", **{**values, "text": jinja2.StrictUndefined()})


def test_a_picture_is_inside_its_address():
    assert (
        base64.b64decode(jpeg_uri(b"\xff\xd8 picture").removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8 picture"
    )

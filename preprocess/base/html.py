"""Web pages that stand alone: no script, style, font or picture from elsewhere."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **values: Any) -> str:
    """The page that ``template``, a file in the folder ``templates`` of ``package``, makes of ``values``.

    Every value is escaped. Templates may extend ``base.html``, which gives all pages one look.
    """
    return _environment(package).get_template(template).render(**values)


def jpeg_uri(data: bytes) -> str:
    """A JPEG file's bytes as an address that holds the picture itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


@lru_cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("preprocess.base")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

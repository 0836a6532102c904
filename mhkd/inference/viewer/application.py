"""What the browser may ask for: the page, the slides, their tiles and their detections, and nothing else.

No address holds the name of a file, so none can lead out of what is served.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from mhkd.inference.export.features import class_color
from mhkd.inference.report.crops import crop_detection
from mhkd.inference.viewer.open_slides import OpenSlides
from preprocess.base.console import describe_error
from preprocess.base.errors import UserError
from preprocess.base.images import encode_image
from preprocess.slides.readers.reader import Image

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    # Everything comes from here, so a page that is shown cannot send anything elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_KEPT, _FRESH = "private, max-age=3600", "no-store"

_ADDRESSES = {
    "/slides.json": "slides",
    "/slides/<int:index>.json": "slide",
    "/slides/<int:index>/tiles/<int:level>/<int:column>_<int:row>.jpg": "tile",
    "/slides/<int:index>/detections/<int:number>.jpg": "crop",
}
_READ_ONLY = ["GET", "HEAD"]
_ROUTES = Map(
    [
        *(Rule(f"/{name}", endpoint="file", defaults={"name": name}, methods=_READ_ONLY) for name in STATIC),
        *(Rule(address, endpoint=endpoint, methods=_READ_ONLY) for address, endpoint in _ADDRESSES.items()),
    ],
    redirect_defaults=False,
)

StartResponse = Callable[..., Any]


class Application:
    """A WSGI application that shows ``slides``.

    hosts: the names under which a browser may ask, None for any. On this machine alone it is ``localhost`` and the
    like: a page from elsewhere cannot then read slides through a name that it has pointed here.
    """

    def __init__(self, slides: OpenSlides, hosts: Iterable[str] | None = None) -> None:
        self.slides = slides
        self.hosts = None if hosts is None else list(hosts)
        folder = resources.files("mhkd.inference.viewer") / "static"
        self._static = {address: (folder / file).read_bytes() for address, (file, _) in STATIC.items()}

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        request.trusted_hosts = self.hosts
        response = self._respond(request)
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", _FRESH)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        try:
            _ = request.host  # refuses a name that is not trusted
            endpoint, values = _ROUTES.bind_to_environ(request.environ).match(method=request.method)
            response: Response = getattr(self, f"_{endpoint}")(**values)
            return response
        except HTTPException as error:
            return _json({"error": error.description or error.name}, error.code or 500)
        except IndexError:
            return _json({"error": "there is no such slide, tile or detection"}, 404)
        except (UserError, OSError) as error:
            return _json({"error": describe_error(error)}, 500)

    def _file(self, name: str) -> Response:
        return Response(self._static[name], content_type=STATIC[name][1])

    def _slides(self) -> Response:
        return _json(
            [
                {
                    "name": view.name,
                    "slide": view.summary["slide"],
                    "total": view.summary["detections"]["total"],
                    "there": view.path is not None,
                }
                for view in self.slides.views
            ]
        )

    def _slide(self, index: int) -> Response:
        with self.slides.reading(index) as entry:
            return _json(entry.view.describe(entry.zoom))

    def _tile(self, index: int, level: int, column: int, row: int) -> Response:
        with self.slides.reading(index) as entry:
            return _jpeg(entry.zoom.tile(level, column, row))

    def _crop(self, index: int, number: int) -> Response:
        with self.slides.reading(index) as entry:
            box, label = entry.detections.boxes_l0[number].tolist(), int(entry.detections.labels[number])
            return _jpeg(crop_detection(entry.zoom.slide, box, class_color(label)))


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, allow_nan=False), status, content_type="application/json")


def _jpeg(image: Image) -> Response:
    data = encode_image(image, ".jpg", quality=85, chroma="420")
    return Response(data, content_type="image/jpeg", headers={"Cache-Control": _KEPT})

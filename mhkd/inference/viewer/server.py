"""Serving the viewer on this machine, until it is interrupted."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import Sequence

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from mhkd.inference.viewer.application import Application
from mhkd.inference.viewer.open_slides import OpenSlides
from mhkd.inference.viewer.results import SlideView
from preprocess.base.errors import UserError

LOCAL = "127.0.0.1"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class _Handler(WSGIRequestHandler):
    """Quiet, and without a word about the software that serves."""

    server_version, sys_version = "mhkd", ""

    def version_string(self) -> str:
        return self.server_version

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_viewer(views: Sequence[SlideView], host: str = LOCAL, port: int = 0) -> BaseWSGIServer:
    """A server of ``views`` that listens already; ``.port`` is its port, ``.serve_forever()`` answers.

    Args:
        port: 0 for any that is free.

    Raises:
        UserError: the address cannot be had.
    """
    application = Application(OpenSlides(views), _LOCAL_NAMES if is_local(host) else None)
    try:
        # Not left to make_server: it prints and exits where the port is taken.
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = f"no server is possible at {host}, port {port}: {getattr(error, 'strerror', None) or error}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            reason = f"port {port} is taken by another program"
        raise UserError(reason, remedy="give another with --port, or 0 for any free one") from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with listener:
        chosen = listener.getsockname()[1]
        return make_server(host, chosen, application, threaded=True, request_handler=_Handler, fd=listener.fileno())


def serve(server: BaseWSGIServer) -> None:
    """Answer until Ctrl-C, then close everything."""
    try:
        server.serve_forever()  # returns at Ctrl-C
    finally:
        server.server_close()
        if isinstance(server.app, Application):
            server.app.slides.close()

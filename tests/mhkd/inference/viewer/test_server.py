from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.request

import pytest

from mhkd.inference.viewer.server import is_local, make_viewer, serve
from preprocess.base.errors import UserError


def test_it_answers_on_this_machine_and_says_nothing_of_itself(address, capfd):
    with urllib.request.urlopen(f"{address}/slides.json", timeout=10) as response:
        assert len(json.load(response)) == 3
        assert response.headers["Server"] == "mhkd"
    assert capfd.readouterr() == ("", "")


def test_a_path_that_a_browser_would_not_send_leads_nowhere(address):
    host = address.removeprefix("http://")
    for path in ("/../../../../etc/passwd", "/..%2f..%2fsetup.cfg", "/static/../viewer.js", "/./discs.json"):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()


def test_a_port_that_is_taken_is_said_in_one_line(results):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is taken by another program \(give another with --port"):
            make_viewer(results, port=port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99999), ("203.0.113.1", 0)])
def test_an_address_that_cannot_be_had_is_said_in_one_line(results, host, port):
    with pytest.raises(UserError, match=f"no server is possible at {host}, port {port}"):
        make_viewer(results, host, port)


def test_the_port_is_free_again_after_the_end(results):
    server = make_viewer(results)
    thread = threading.Thread(target=serve, args=(server,))
    thread.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/slides/0.json", timeout=10) as response:
        assert response.status == 200
    server.shutdown()
    thread.join()
    socket.create_server(("127.0.0.1", server.port)).close()


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("lab", False)],
)
def test_only_this_machines_own_addresses_are_local(host, local):
    assert is_local(host) == local

"""Downloads from a server on this machine: right, wrong, missing, cut short; and what is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from glassnet.data.download import locate
from glassnet.errors import DataError
from messages import message_of

CONTENT = {"images.gz": b"\x1f\x8b" + bytes(range(256)) * 40, "labels.gz": b"\x1f\x8bseven"}
FILES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}


class Mirror(BaseHTTPRequestHandler):
    """/good/ sends the files, /wrong/ other bytes, /cut/ half of what it announces, all else is a 404."""

    def do_GET(self):  # the name that http.server calls
        self.server.asked.append(self.path)
        _, folder, name = self.path.split("/")
        content = CONTENT[name]
        if folder not in ("good", "wrong", "cut"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        sent = {"good": content, "wrong": content[::-1], "cut": content[: len(content) // 2]}[folder]
        self.wfile.write(sent)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server):
    """The address of a folder of the server."""
    return lambda *folders: [f"http://127.0.0.1:{server.server_port}/{folder}/" for folder in folders]


@pytest.fixture
def closed():
    """An address where no one answers."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/closed/"


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_downloads_into_the_cache_once(tmp_path, server, mirrors, capfd):
    for _ in range(2):
        paths = locate("toy", FILES, mirrors("good"), folder=None, cache=tmp_path)
        assert {name: path.read_bytes() for name, path in paths.items()} == CONTENT
    assert server.asked == ["/good/images.gz", "/good/labels.gz"]
    assert everything_in(tmp_path) == ["toy/images.gz", "toy/labels.gz"]
    assert capfd.readouterr() == ("", "")


def test_the_next_mirror_is_tried_after_each_kind_of_failure(tmp_path, server, mirrors, closed):
    order = [closed, *mirrors("none", "wrong", "cut", "good")]
    paths = locate("toy", FILES, order, folder=None, cache=tmp_path)
    assert {name: path.read_bytes() for name, path in paths.items()} == CONTENT
    assert server.asked == [
        f"/{folder}/{name}" for name in FILES for folder in ("none", "wrong", "cut", "good")
    ]
    assert everything_in(tmp_path) == ["toy/images.gz", "toy/labels.gz"]


def test_files_of_the_user_come_first_and_then_the_cache(tmp_path, server, mirrors):
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    for place, name in ((folder, "images"), (cache, "images.gz"), (cache, "labels.gz")):
        (place / "toy").mkdir(parents=True, exist_ok=True)
        (place / "toy" / name).write_bytes(b"here")
    paths = locate("toy", FILES, mirrors("good"), folder=folder, cache=cache)
    assert paths == {"images.gz": folder / "toy" / "images", "labels.gz": cache / "toy" / "labels.gz"}
    assert server.asked == []


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path, mirrors):
    (mirror,) = mirrors("wrong")
    got = hashlib.sha256(CONTENT["images.gz"][::-1]).hexdigest()
    assert message_of(DataError, locate, "toy", FILES, [mirror], folder=None, cache=tmp_path) == (
        f"The data set 'toy' lacks images.gz, labels.gz: GLASSNET_DATA is not set, not in the cache "
        f"{tmp_path / 'toy'}, and no mirror sent images.gz ({mirror}images.gz: expected SHA-256 "
        f"{FILES['images.gz']}, got {got}). Put the files into a folder named toy and set GLASSNET_DATA "
        f"to the folder that holds it."
    )
    assert everything_in(tmp_path) == []


def test_missing_files_are_named_with_every_address_that_was_tried(tmp_path, mirrors):
    one, two = mirrors("none", "gone")
    (tmp_path / "cache" / "toy").mkdir(parents=True)
    (tmp_path / "cache" / "toy" / "images.gz").write_bytes(b"here")
    mine = tmp_path / "mine"
    assert message_of(DataError, locate, "toy", FILES, [one, two], folder=mine, cache=tmp_path / "cache") == (
        f"The data set 'toy' lacks labels.gz: not in {mine / 'toy'} (GLASSNET_DATA), not in the cache "
        f"{tmp_path / 'cache' / 'toy'}, and no mirror sent labels.gz "
        f"({one}labels.gz: 404 Client Error: Not Found for url: {one}labels.gz; "
        f"{two}labels.gz: 404 Client Error: Not Found for url: {two}labels.gz). "
        f"Put the files into a folder named toy and set GLASSNET_DATA to the folder that holds it."
    )


def test_a_cut_connection_leaves_nothing(tmp_path, mirrors):
    message = message_of(DataError, locate, "toy", FILES, mirrors("cut"), folder=None, cache=tmp_path)
    assert "IncompleteRead" in message
    assert everything_in(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, mirrors):
    (tmp_path / "cache").write_text("a file, not a folder")
    message = message_of(
        DataError, locate, "toy", FILES, mirrors("good"), folder=None, cache=tmp_path / "cache"
    )
    assert str(tmp_path / "cache" / "toy") in message and "Not a directory" in message

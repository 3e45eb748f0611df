import hashlib
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from zoo.data import download as module
from zoo.data.download import download
from zoo.errors import ZooError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cuts` are numbers of bytes after which a connection breaks, one a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.cuts, self.status, self.asked = True, [], None, []
        self.url = f"http://127.0.0.1:{self.server_port}/data.json"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.status:
            return self.send_error(server.status)
        start = 0
        if server.ranges and "Range" in self.headers:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"]).group(1))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(CONTENT[start:] if cut is None else CONTENT[start : start + cut])
        self.close_connection = True
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "cache" / "data.json"


def test_whole(server, destination):
    assert download(server.url, SHA256, destination) == destination
    assert destination.read_bytes() == CONTENT
    assert not destination.with_name("data.json.part").exists()


def test_what_is_there_is_not_downloaded_again(server, destination):
    download(server.url, SHA256, destination)
    download(server.url, SHA256, destination)
    assert server.asked == [None]


def test_continues_where_the_connection_broke(server, destination):
    server.cuts = [1_000_000, 500_000]
    download(server.url, SHA256, destination)
    assert destination.read_bytes() == CONTENT
    starts = [0 if r is None else int(r.removeprefix("bytes=").removesuffix("-")) for r in server.asked]
    assert len(starts) == 3
    assert starts[0] == 0 and 0 < starts[1] <= 1_000_000 and starts[1] < starts[2] <= 1_500_000


def test_continues_what_a_killed_run_left(server, destination):
    destination.parent.mkdir()
    destination.with_name("data.json.part").write_bytes(CONTENT[:2_000_000])
    download(server.url, SHA256, destination)
    assert destination.read_bytes() == CONTENT
    assert server.asked == ["bytes=2000000-"]


def test_starts_anew_where_the_server_cannot_continue(server, destination):
    server.ranges, server.cuts = False, [1_000_000]
    download(server.url, SHA256, destination)
    assert destination.read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("extra", [b"", b"something else"])
def test_a_part_that_is_whole_or_too_long(server, destination, extra):
    destination.parent.mkdir()
    destination.with_name("data.json.part").write_bytes(CONTENT + extra)
    download(server.url, SHA256, destination)
    assert destination.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off(server, destination, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)
    server.cuts = [10_000] * module.ATTEMPTS
    with pytest.raises(
        ZooError, match=f"the connection broke {module.ATTEMPTS} times; run again to continue"
    ) as caught:
        download(server.url, SHA256, destination)
    assert str(destination) in str(caught.value)
    got = destination.with_name("data.json.part").read_bytes()
    assert CONTENT.startswith(got) and len(got) >= 8 * 9_000
    download(server.url, SHA256, destination)
    assert destination.read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={len(got)}-"


def test_wrong_checksum(server, destination):
    with pytest.raises(ZooError, match="the wrong checksum") as caught:
        download(server.url, "0" * 64, destination)
    assert "\n" not in str(caught.value) and server.url in str(caught.value)
    assert not destination.exists() and not destination.with_name("data.json.part").exists()


def test_wrong_file_placed_by_hand_is_named_and_kept(server, destination):
    destination.parent.mkdir()
    destination.write_bytes(b"mine")
    with pytest.raises(ZooError, match=r"wrong checksum .*delete") as caught:
        download(server.url, SHA256, destination)
    assert str(destination) in str(caught.value)
    assert destination.read_bytes() == b"mine" and server.asked == []


def test_right_file_placed_by_hand_needs_no_network(destination):
    destination.parent.mkdir()
    destination.write_bytes(CONTENT)
    assert download("http://127.0.0.1:1/data.json", SHA256, destination) == destination


def test_offline_says_from_where_and_to_where(destination):
    url = "http://127.0.0.1:1/data.json"
    with pytest.raises(ZooError, match="no connection") as caught:
        download(url, SHA256, destination)
    assert f"download {url} by hand and place it at {destination}" in str(caught.value)


def test_refused_by_the_server(server, destination):
    server.status = 404
    with pytest.raises(ZooError, match=r"HTTP 404.* by hand"):
        download(server.url, SHA256, destination)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes, which Windows lacks")
def test_full_disk(server, destination):
    """A limit on file sizes makes writes fail in the middle, as a full disk does."""
    code = (
        "import resource, sys; from pathlib import Path; from zoo.data.download import download; "
        "from zoo.errors import ZooError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))\n"
        "try: download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))\n"
        "except ZooError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, server.url, SHA256, str(destination)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    (line,) = run.stdout.splitlines() or [run.stderr]
    assert str(destination.parent) in line and "ZOO_CACHE" in line
    download(server.url, SHA256, destination)  # room again: it goes on
    assert destination.read_bytes() == CONTENT
    assert server.asked[-1] not in (None, "bytes=0-")

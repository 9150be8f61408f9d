"""Downloads end, by time and by size, are what they are to be, and leave nothing behind."""

import base64
import contextlib
import http.server
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filmstrip.media import download, export_to_video, load_image, load_video
from tests.media.clips import moving_square


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by the address's path, in `answers`."""

    answers = {}  # noqa: RUF012
    asked = []  # noqa: RUF012

    def do_GET(self):
        Server.asked.append((self.path, dict(self.headers)))
        with contextlib.suppress(OSError):
            Server.answers[self.path.partition("?")[0]](self)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server with answers of its own; downloads go below the test's folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Server.answers, Server.asked = {}, []
    with http.server.ThreadingHTTPServer(("localhost", 0), Server) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
    assert not list((tmp_path / "temporary").iterdir()), "something is left behind"


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(moving_square(1)[0]).save(tmp_path / "picture.png")
    return (tmp_path / "picture.png").read_bytes()


def sent(data, kind="image/png", length=None, **headers):
    """An answer with these bytes; without a length for "none"."""

    def answer(server):
        server.send_response(200)
        if kind:
            server.send_header("Content-Type", kind)
        if length != "none":
            server.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            server.send_header(name, value)
        server.end_headers()
        server.wfile.write(data)

    return answer


def dripping(first, every):
    """An answer that never ends: some bytes now, and one more now and then."""

    def answer(server):
        server.wfile.write(first)
        for _ in range(200):
            time.sleep(every)
            server.wfile.write(b"x")

    return answer


def leading(place, code=302):
    def answer(server):
        server.send_response(code)
        server.send_header("Location", place)
        server.send_header("Content-Length", "0")
        server.end_headers()

    return answer


OK = b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    "first", [b"", b"HTTP", OK, OK + b"X: ", OK + b"\r\n", OK + b"Content-Length: 999\r\n\r\nab"], ids=repr
)
@pytest.mark.parametrize("load", [load_image, load_video])
def test_a_drip_of_bytes_ends(load, first, site, monkeypatch):
    monkeypatch.setattr(download, "_MOST_SECONDS", 0.5)
    Server.answers["/a"] = dripping(first, 0.05)
    begin = time.monotonic()
    with pytest.raises(
        ValueError, match=r"http://localhost:\d+/a can't be downloaded: it takes longer than 0.5 seconds"
    ):
        load(f"http://{site}/a?signature=1")
    assert time.monotonic() - begin < 3
    monkeypatch.setattr(download, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(download, "_MOST_SECONDS", 60)
    Server.answers["/a"] = dripping(first, 1)
    with pytest.raises(ValueError, match=r"can't be downloaded: (timed out|no answer)"):
        load(f"http://{site}/a")


@pytest.mark.parametrize("length", [None, "none"])
def test_each_kind_has_its_largest_size(length, site, picture, monkeypatch, tmp_path):
    export_to_video(moving_square(), tmp_path / "clip.mkv")
    clip = (tmp_path / "clip.mkv").read_bytes()
    Server.answers |= {"/p": sent(picture, length=length), "/c": sent(clip, "video/x-matroska", length=length)}
    monkeypatch.setattr(download, "_MOST_BYTES", {"picture": len(picture), "video": len(clip)})
    assert load_image(f"http://{site}/p").size == (64, 48)
    assert len(load_video(f"http://{site}/c")) == 6
    monkeypatch.setattr(download, "_MOST_BYTES", {"picture": len(picture) - 1, "video": len(clip) - 1})
    for load, name in ((load_image, "p"), (load_video, "c")):
        with pytest.raises(ValueError, match=r"is larger than \d+ MiB, the most for a (picture|video)"):
            load(f"http://{site}/{name}")


def test_what_ends_early_is_not_taken_for_whole(site, picture):
    Server.answers["/p"] = sent(picture, length=len(picture) + 1)
    with pytest.raises(ValueError, match="it ended after"):
        load_image(f"http://{site}/p")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/html", "is a web page, not a picture"),
        ("text/html; charset=utf-8", "is a web page"),
        ("application/xhtml+xml", "is a web page"),
        ("application/json", "sends application/json, which is no picture"),
        ("text/plain", "sends text/plain"),
        ("video/mp4", "sends video/mp4, which is no picture"),
        ("audio/mpeg", "sends audio/mpeg"),
    ],
)
def test_other_kinds_of_content_are_named(kind, said, site, picture):
    Server.answers["/p"] = sent(picture, kind)
    with pytest.raises(ValueError, match=said):
        load_image(f"http://{site}/p")


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "binary/octet-stream", ""])
def test_a_picture_may_come_without_its_kind(kind, site, picture):
    Server.answers["/p"] = sent(picture, kind)
    assert load_image(f"http://{site}/p?signature=1").size == (64, 48)
    assert Server.asked[-1][0] == "/p?signature=1", "it is needed, and not shown"


def test_a_web_page_that_claims_to_be_a_picture_is_none(site):
    Server.answers["/p"] = sent(b"<html>Please sign in.</html>")
    with pytest.raises(ValueError, match=r"^http://localhost:\d+/p can't be read as a picture: it is none of"):
        load_image(f"http://{site}/p?signature")


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://localhost/a.png", "data:image/png;base64,AAAA", "x:y"]
)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_leads_to_the_web_only(place, code, site):
    Server.answers["/p"] = leading(place, code)
    with pytest.raises(ValueError, match="which is no web address"):
        load_image(f"http://{site}/p")


def test_a_redirect_is_followed_without_the_password(site, picture):
    Server.answers |= {"/old": leading("/p?signature=1"), "/p": sent(picture), "/loop": leading("/loop?signature=1")}
    assert load_image(f"http://user:hun%20ter@{site}/old").size == (64, 48)
    first, second = (headers for _, headers in Server.asked)
    assert first["Authorization"] == "Basic " + base64.b64encode(b"user:hun ter").decode()
    assert "Authorization" not in second
    with pytest.raises(ValueError, match="can't be downloaded") as refused:
        load_image(f"http://{site}/loop")
    assert "signature" not in str(refused.value)


def test_names_that_are_not_ascii_are_found(site, picture):
    Server.answers["/%C3%A9%20%25.png"] = sent(picture)
    assert load_image(f"http://{site}/é %25.png").size == (64, 48)


@pytest.mark.parametrize("code", [403, 404, 500])
def test_a_refusal_is_told(code, site):
    Server.answers["/p"] = lambda server: server.send_error(code)
    with pytest.raises(ValueError, match=rf"^the picture http://\S+/p can't be downloaded: .*\({code}\)\.$"):
        load_image(f"http://{site}/p?signature")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.0 999999 ?\r\n\r\n", b"\x00" * 70000])
def test_nonsense_is_a_sentence(answer, site):
    Server.answers["/p"] = lambda server: server.wfile.write(answer)
    with pytest.raises(ValueError, match="can't be downloaded"):
        load_image(f"http://{site}/p")


def test_a_full_disk_is_a_sentence(site, picture, monkeypatch):
    Server.answers["/p"] = sent(picture)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ValueError, match="can't be downloaded: No space left on device"):
        load_image(f"http://{site}/p")


def test_ctrl_c_leaves_nothing(site, picture, monkeypatch):
    Server.answers["/p"] = sent(picture)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_image(f"http://{site}/p")


def test_the_pixels_are_those_that_were_sent(site, picture):
    Server.answers["/p"] = sent(picture)
    np.testing.assert_array_equal(np.asarray(load_image(f"HTTP://{site}/p")), moving_square(1)[0])

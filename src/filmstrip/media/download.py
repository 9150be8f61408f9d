"""Pictures and clips from web addresses, with an end in time and size."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filmstrip.media.places import is_address, public_address, reason_of

_PATIENCE_SECONDS = 30  # without a byte: longer than a server's cold start, shorter than anybody waits in silence
_MOST_SECONDS = 900  # for all of it: the largest clip at 20 Mbit/s; a drip of bytes would hold a job for ever
_MOST_BYTES = {
    "picture": 1 << 28,  # 256 MiB: a 16-bit TIFF of 40 million pixels, what the largest cameras give
    "video": 1 << 31,  # 2 GiB: half an hour at a camera's 10 Mbit/s, far more frames than a model takes
}
_BLOCK = 1 << 18
_WEB_PAGES = ("text/html", "application/xhtml+xml")
_OTHERS = ("text/", "application/json", "application/xml", "application/javascript", "application/pdf", "audio/")


def download(address: str, path: Path, what: str) -> None:
    """Write what lies at a web address to a file.

    Args:
        what: it is to be, "picture" or "video".

    Raises:
        ValueError: it can't be had, is too large or takes too long, or is something else; a part may be there.
    """
    shown = public_address(address)
    end = time.monotonic() + _MOST_SECONDS
    connections = _Connections()
    watch = threading.Timer(_MOST_SECONDS, connections.cut)
    watch.daemon = True
    watch.start()
    try:
        with _opener(connections).open(_request(address, shown, what), timeout=_PATIENCE_SECONDS) as response:
            _check_kind(response, shown, what)
            with path.open("wb") as file:
                _copy(response, file, shown, what)
            if connections.are_cut:  # which looks like the end of what has no length
                raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if connections.are_cut or time.monotonic() >= end:
            raise ValueError(
                f"the {what} {shown} can't be downloaded: it takes longer than {_MOST_SECONDS:g} seconds; "
                "download it yourself, and give the file."
            ) from error
        if isinstance(error, _Refused):
            raise ValueError(str(error)) from error.__cause__
        raise ValueError(f"the {what} {shown} can't be downloaded: {_reason(error)}.") from error
    finally:
        watch.cancel()
        connections.close()


class _Refused(ValueError):
    """What can't be had, in a whole sentence."""


def _request(address: str, shown: str, what: str) -> urllib.request.Request:
    """The request for an address, with the name and password in it as a header for its own host alone."""
    try:
        parts = urllib.parse.urlsplit(address)
        user, sign, host = parts.netloc.rpartition("@")
        quoted = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
        is_host = parts.hostname is not None and parts.port != 0
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except (ValueError, UnicodeError) as error:
        raise _Refused(f"{shown} is no web address that can be read; give https://HOST/PATH.") from error
    if not is_host or any(sign.isspace() for sign in ascii_host):
        raise _Refused(f"{shown} is no web address that can be read; give https://HOST/PATH.")
    whole = urllib.parse.urlunsplit((parts.scheme, ascii_host, quoted, query, ""))
    request = urllib.request.Request(
        whole, headers={"User-Agent": "filmstrip", "Accept": "image/*, video/*, */*;q=0.1"}
    )
    if sign:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _check_kind(response: Any, shown: str, what: str) -> None:
    kind = response.headers.get_content_type() if response.headers.get("Content-Type") else ""
    if kind in _WEB_PAGES:
        raise _Refused(f"{shown} is a web page, not a {what}; give the address of the {what} itself.")
    wrong = what == "picture" and kind.startswith("video/")
    if wrong or kind.startswith(_OTHERS):
        raise _Refused(f"{shown} sends {kind}, which is no {what}; give the address of a {what}.")


def _copy(response: Any, file: IO[bytes], shown: str, what: str) -> None:
    most, length = _MOST_BYTES[what], response.length
    too_large = _Refused(
        f"the {what} {shown} can't be downloaded: it is larger than {most >> 20} MiB, the most for a {what}; "
        "give a smaller one, or download it yourself and give the file."
    )
    if length is not None and length > most:
        raise too_large
    count = 0
    while block := response.read1(_BLOCK):  # what has come, so that no drip of bytes is waited for
        count += len(block)
        if count > most:
            raise too_large
        file.write(block)
    if length is not None and count < length:
        raise _Refused(f"the {what} {shown} can't be downloaded: it ended after {count} of {length} bytes; try again.")


def _reason(error: BaseException) -> str:
    """Why, in words in which no address stands: what a library quotes may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.reason} ({error.code})"
    if isinstance(error, urllib.error.URLError):
        inner = error.reason
        return reason_of(inner) if isinstance(inner, OSError) else str(inner)
    if isinstance(error, TimeoutError):
        return f"no answer for {_PATIENCE_SECONDS:g} seconds"
    if isinstance(error, (http.client.InvalidURL, UnicodeError)):
        return "the address can't be read"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection"
    return reason_of(error) if isinstance(error, OSError) else "the server's answer can't be read"


# ---- connections that can be cut -------------------------------------------------------------------------------------


class _Connections:
    """The connections of a download, cut from outside when its time is over, whatever is waited for."""

    def __init__(self) -> None:
        self.are_cut = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def made(self, *args: Any, **options: Any) -> socket.socket:
        """`socket.create_connection`, remembered by a second handle, which stays when encryption takes the first."""
        made = socket.create_connection(*args, **options)
        with self._lock:
            self._sockets.append(made.dup())
            if self.are_cut:
                self._shut(self._sockets[-1])
        return made

    def cut(self) -> None:
        with self._lock:
            self.are_cut = True
            for one in self._sockets:
                self._shut(one)

    def close(self) -> None:
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    @staticmethod
    def _shut(one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Redirects to http and https, and to nothing else."""

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        place = urllib.parse.urljoin(req.full_url, headers.get("location") or headers.get("uri") or "")
        if not is_address(place):
            fp.close()
            raise _Refused(f"{public_address(req.full_url)} leads to {public_address(place)}, which is no web address.")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(connections: _Connections) -> urllib.request.OpenerDirector:
    def watched(kind: Any) -> Any:
        def make(*args: Any, **options: Any) -> Any:
            connection = kind(*args, **options)
            connection._create_connection = connections.made
            return connection

        return make

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(watched(http.client.HTTPConnection), req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(watched(http.client.HTTPSConnection), req, context=ssl.create_default_context())

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _OnlyWeb(),
        Http(),
        Https(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def local_file(source: object, what: str) -> Iterator[tuple[Path, str]]:
    """A path to read, downloaded first if the source is an address, and its name for messages."""
    import tempfile

    if isinstance(source, str) and is_address(source):
        with tempfile.TemporaryDirectory(prefix="filmstrip-") as folder:
            path = Path(folder) / "download"
            download(source, path, what)
            yield path, public_address(source)
    elif isinstance(source, (str, Path)):
        yield Path(source), public_address(source)
    else:
        raise ValueError(f"a {what} must be a path or an http(s) address, got {type(source).__name__}.")

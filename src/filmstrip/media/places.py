"""Where pictures and clips lie: names that may be shown, and files that may be opened."""

from __future__ import annotations

import re
import stat
from pathlib import Path

# Two letters at least, since one is a drive. A path in the place of an address has lost one of its slashes.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+:/+)([^/?#]*)([^?#]*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.%]*\]|[^:\[\]]*)(:\d*)?", re.IGNORECASE)
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_address(place: object) -> bool:
    """Whether it is a web address, which is downloaded."""
    return isinstance(place, str) and place[:8].lower().startswith(("http://", "https://"))


def public_address(place: object) -> str:
    """A path as it is, an address as it may be shown and written down.

    Whatever opens what is not public is cut: a user's name and password, and what follows a "?" or "#", such as the
    signature of an address that somebody handed out for a while.
    """
    text = str(place)
    found = _ADDRESS.match(text)
    if found is None:
        return text
    scheme, authority, path = found.groups()
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host):  # a password with a slash, say: nobody knows where it ends
        return f"{scheme}..."
    return f"{scheme}{host}{path}"


def ffmpeg_name(path: Path) -> str:
    """A path as FFmpeg is told it: with the protocol written out, nothing in a file's name is taken for another."""
    return f"file:{path.absolute()}"


def check_file(path: Path, what: str, shown: str | None = None) -> None:
    """See that a path is a file: to open a pipe, a socket or a device may wait for ever, or do something.

    Args:
        what: it is to be, for messages: "picture".
        shown: its name in messages, where that is another.
    """
    name = public_address(path) if shown is None else shown
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise ValueError(f"the {what} {name} can't be read: {error.strerror}.") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no {what} {name}; give a file, or an address that starts with http(s)://."
        ) from error
    if stat.S_ISDIR(mode):
        raise ValueError(f"{name} can't be read as a {what}: it is a folder; name one file.")
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no file")
        raise ValueError(f"{name} is {kind}, and a {what} is read from files only; copy it into a file first.")


def reason_of(error: BaseException) -> str:
    """What an error of a library says, to end a sentence with; without the path, which the sentence has named."""
    said = str(getattr(error, "strerror", None) or error)  # which errors of FFmpeg have, too
    return said.strip().rstrip(".") or type(error).__name__

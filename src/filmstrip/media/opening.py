"""The one place that opens pictures and clips: only files, and only formats that hold their own pixels.

Some formats name other files or addresses, which the libraries below would open (playlists, scripts, patterns of
names), or are programs that another program runs (PostScript). A list of what is allowed keeps them all out, also those
that a later version of a library learns; what a file is called plays no part.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from filmstrip.media.places import check_file, ffmpeg_name, public_address, reason_of

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM", "QOI")
"""As Pillow names them; "PPM" has PGM, PBM and PFM in it."""
CLIP_FORMATS = (
    *(
        "mov",
        "mp4",
        "m4a",
        "3gp",
        "3g2",
        "mj2",
        "matroska",
        "webm",
        "avi",
        "mpegts",
        "mpeg",
        "flv",
        "asf",
        "ogg",
        "mxf",
    ),
    *("ivf", "yuv4mpegpipe"),
)
"""As FFmpeg names its demuxers."""
_CLIPS_IN_WORDS = "MP4, MOV, WebM, Matroska, AVI, MPEG, FLV, ASF, Ogg, MXF, IVF and Y4M"
_PICTURES_IN_WORDS = ", ".join(PICTURE_FORMATS[:-1]) + f" and {PICTURE_FORMATS[-1]}"
# FFmpeg opens nothing but the file itself, whatever stands in it.
_ONLY_THIS_FILE = {"format_whitelist": ",".join(CLIP_FORMATS), "protocol_whitelist": "file"}


def picture_suffixes() -> set[str]:
    """Suffixes of files that claim to be pictures, with the dot."""
    return {suffix for suffix, of in Image.registered_extensions().items() if of in PICTURE_FORMATS}


def _formats() -> list[str]:
    Image.init()
    return [name for name in PICTURE_FORMATS if name in Image.OPEN]


@contextmanager
def open_picture(source: Path | BinaryIO, what: str = "picture", shown: str | None = None) -> Iterator[Image.Image]:
    """A picture, or an animation, of one of `PICTURE_FORMATS`.

    Args:
        what: it is to be, for messages.
        shown: its name in messages, where that is not the path.

    Raises:
        ValueError: it is none, or its pixels can't be read inside of the `with` block.
    """
    name = shown or ("a kept picture" if not isinstance(source, Path) else public_address(source))
    if isinstance(source, Path):
        check_file(source, what, name)
    try:
        with Image.open(source, formats=_formats()) as picture:
            yield picture
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} can't be read as a {what}: it is none of {_PICTURES_IN_WORDS}; convert it to one of them."
        ) from error
    except Exception as error:  # a damaged file may make its decoder raise anything
        raise ValueError(f"{name} can't be read as a {what}: {reason_of(error)}.") from error


def is_picture(path: Path) -> bool:
    """Whether a file is a picture or an animation by its first bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_formats()):
                return True
        except UnidentifiedImageError:
            return False
        except Exception:
            return True  # and a damaged one


@contextmanager
def open_clip(path: Path, shown: str | None = None) -> Iterator[Any]:
    """The container of a clip, of one of `CLIP_FORMATS`, open for reading.

    Raises:
        ValueError: it is none, or can't be read inside of the `with` block.
    """
    import av

    name = public_address(path) if shown is None else shown
    check_file(path, "video", name)
    try:
        with av.open(ffmpeg_name(path), options=dict(_ONLY_THIS_FILE), metadata_errors="replace") as container:
            yield container
    except av.error.ArgumentError as error:
        raise ValueError(
            f"{name} can't be read as a video: it is none of {_CLIPS_IN_WORDS}; convert it to one of them."
        ) from error
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{name} can't be read as a video: {reason_of(error)}.") from error

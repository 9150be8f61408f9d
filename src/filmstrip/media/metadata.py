"""The story of a video (prompt, seed, settings, versions), kept inside the file and in a JSON file beside it."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filmstrip.files import partial_path
from filmstrip.json_files import parse_object
from filmstrip.media.animations import pictures_in
from filmstrip.media.facts import FILE_KEY
from filmstrip.media.formats import FORMATS
from filmstrip.media.opening import is_picture, open_clip, open_picture
from filmstrip.media.places import check_file, public_address

logger = logging.getLogger(__name__)


def encode(metadata: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> str:
    """One line of JSON; values that JSON lacks are written as text."""
    return json.dumps({**(metadata or {}), FILE_KEY: dict(facts)}, ensure_ascii=False, default=str)


def decode(text: str | bytes | None) -> dict[str, Any] | None:
    """What `encode` was given, with the facts under `FILE_KEY`; None for text that is not ours."""
    try:
        record = parse_object(text or "")
    except (TypeError, ValueError):
        return None
    return record if FILE_KEY in record else None


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The metadata a video was written with, from the file itself, else from the JSON file beside it.

    Raises:
        ValueError: there is no such file, or it carries no metadata of ours.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise ValueError(f"there is no file {public_address(path)}.")
        check_file(path, "video")
    for record in (read_embedded(path), _read_beside(path)):
        if record and (metadata := {key: value for key, value in record.items() if key != FILE_KEY}):
            return metadata
    raise ValueError(
        f"{path} carries no metadata, and {json_path(path).name} beside it holds none: "
        "it was not written by filmstrip, or without metadata."
    )


def read_embedded(path: Path) -> dict[str, Any] | None:
    """The record inside a file or folder of frames; None where there is none."""
    if path.is_dir():
        first = next((one for one in pictures_in(path) if one.suffix.lower() == ".png"), None)
        return read_embedded(first) if first else None
    if path.suffix.lower() == ".json":
        return decode(path.read_bytes())
    try:
        return _read_from_picture(path) if is_picture(path) else _read_from_container(path)
    except ValueError:  # whoever reads the pixels says what is wrong
        return None


def _read_from_picture(path: Path) -> dict[str, Any] | None:
    with open_picture(path) as picture:
        info = dict(picture.info)
    packet = info.get("xmp")
    if isinstance(packet, (bytes, str)):
        return decode(text_of_xmp(packet.encode() if isinstance(packet, str) else packet))
    return decode(info.get("comment") or info.get("filmstrip"))


def _read_from_container(path: Path) -> dict[str, Any] | None:
    with open_clip(path) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    return decode(tags.get("comment"))


def _read_beside(path: Path) -> dict[str, Any] | None:
    beside = json_path(path)
    return decode(beside.read_bytes()) if beside.is_file() else None


def json_path(path: Path) -> Path:
    """The JSON file that goes with a video: name.mp4 has name.json."""
    return path.with_suffix(".json") if path.suffix.lower() in FORMATS else path.with_name(f"{path.name}.json")


def write_beside(path: Path, metadata: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write the JSON file of a video, whole or not at all; one that is not this video's is left alone."""
    beside = json_path(path)
    if beside.exists() and _name_in(beside) != path.name:
        logger.warning(
            "%s was not written by filmstrip for %s and is kept; the metadata are in that only.", beside, path.name
        )
        return
    text = encode(metadata, {**facts, "name": path.name})
    partial = partial_path(beside)
    try:
        partial.write_text(json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        partial.replace(beside)
    finally:
        partial.unlink(missing_ok=True)


def _name_in(beside: Path) -> object:
    """The name of the video that a JSON file goes with; None if it is not one of ours."""
    record = decode(beside.read_bytes()) if beside.is_file() else None
    facts = None if record is None else record[FILE_KEY]
    return facts.get("name") if isinstance(facts, dict) else None


# ---- where formats keep text -----------------------------------------------------------------------------------------


def xmp_of_text(text: str) -> bytes:
    """An XMP packet whose description is the text; WebP has no plainer place for Unicode."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{html.escape(text)}</rdf:li>'
        "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def text_of_xmp(packet: bytes) -> str | None:
    """The description in an XMP packet."""
    text = packet.decode(errors="replace")
    # Found piece by piece: an expression over all of it takes a square of the time on a packet that is made for that.
    place = text.find("<rdf:li", max(0, text.find("<dc:description>"))) if "<dc:description>" in text else -1
    begin = text.find(">", place) + 1 if place >= 0 else 0
    end = text.find("</rdf:li>", begin) if begin else -1
    return html.unescape(text[begin:end]) if end >= 0 else None


def gif_comment(text: str) -> bytes:
    """A comment extension block: the text in pieces of at most 255 bytes (GIF89a, section 24)."""
    data = text.encode()
    return b"\x21\xfe" + b"".join(_sub_blocks(data)) + b"\x00"


def _sub_blocks(data: bytes) -> Iterable[bytes]:
    for start in range(0, len(data), 255):
        piece = data[start : start + 255]
        yield bytes([len(piece)]) + piece

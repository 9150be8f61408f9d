"""`filmstrip show`: what a video was made with, and how far one is that was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filmstrip.cli.facts import Facts
from filmstrip.cli.printing import print_facts, print_json
from filmstrip.jobs import described_kept

_KEPT_SUFFIX = ".safetensors"
_APART = (
    "prompt",
    "negative_prompt",
    "seed",
    "model",
    "pipeline",
    "settings",
    "fps",
    "inputs",
    "unfinished",
    "versions",
)


def show_file(file: Path, *, is_json: bool) -> None:
    """Print what is written down in a file."""
    content = {"file": str(file), **_content(file)}
    print_json(content) if is_json else print_facts(_facts(content))


def _content(file: Path) -> dict[str, Any]:
    from filmstrip.media import read_metadata

    return described_kept(file) if file.suffix == _KEPT_SUFFIX and file.is_file() else read_metadata(file)


def _facts(content: Mapping[str, Any]) -> Facts:
    pipeline = f" ({content['pipeline']})" if content.get("pipeline") else ""
    told: dict[str, Any] = {
        "file": content["file"],
        "progress": _progress(content.get("unfinished")),
        "prompt": content.get("prompt"),
        "negative prompt": content.get("negative_prompt"),
        "model": f"{content['model']}{pipeline}" if content.get("model") else None,
        "seed": content.get("seed"),
        "fps": content.get("fps"),
        **{name.replace("_", " "): value for name, value in _entries(content.get("settings")).items()},
        **{name.replace("_", " "): _source(value) for name, value in _entries(content.get("inputs")).items()},
        **{name.replace("_", " "): value for name, value in content.items() if name not in (*_APART, "file")},
        "made with": content.get("versions"),
    }
    return [(_plain(name), _plain(_said(value))) for name, value in told.items() if value not in (None, {}, [])]


def _progress(unfinished: Any) -> str | None:
    if not isinstance(unfinished, Mapping):
        return None
    if unfinished.get("is_denoised"):
        return "all steps are done; what is left is decoding (filmstrip decode)"
    total = f" of {unfinished['steps']}" if unfinished.get("steps") else ""
    return f"{unfinished.get('steps_done')}{total} steps are done (filmstrip decode goes on)"


def _entries(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _source(value: Any) -> Any:
    return value.get("source", value) if isinstance(value, Mapping) else value


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """A text without what would steer a terminal: anybody may have written it into a file."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)

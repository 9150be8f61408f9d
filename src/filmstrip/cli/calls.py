"""What a pipeline's call takes, and what of it can be said on a command line."""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

# Arguments that the command sets itself, with the option that the user has for them.
OWNED = {
    "control_video": "--control-video",
    "generator": "--seed",
    "height": "--size",
    "image": "--image",
    "num_videos_per_prompt": "--num-videos",
    "output_type": "-o",
    "video": "--video",
    "width": "--size",
    "return_dict": None,
    "callback_on_step_end_tensor_inputs": None,
}
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_UNIONS = (Union, types.UnionType)


class Call:
    """The arguments of a pipeline class's call."""

    def __init__(self, pipeline_class: type) -> None:
        self.name = pipeline_class.__name__
        hints = get_type_hints(pipeline_class.__call__)
        self.hints: dict[str, Any] = {name: hint for name, hint in hints.items() if name != "return"}

    @property
    def length(self) -> str | None:
        """The argument that says how many frames to make, if there is one."""
        return next((name for name in ("num_frames", "video_length") if name in self), None)

    def __contains__(self, name: str) -> bool:
        return name in self.hints

    @property
    def settable(self) -> list[str]:
        """Arguments that --set takes: those whose values can be written as JSON or text."""
        return [name for name, hint in self.hints.items() if name not in OWNED and _is_plain(hint)]

    def checked(self, name: str, value: Any, said: str) -> Any:
        """The value, if the call takes that argument and such a value.

        Args:
            said: how the user gave it, such as "--steps".
        """
        if name not in self:
            raise ValueError(f"{said} has no effect: {self.name} takes no {name}; drop it.")
        if not _fits(value, self.hints[name]):
            raise ValueError(f"{said} takes {_words(self.hints[name])}, got {_shown(value)}.")
        return value

    def parse(self, assignment: str) -> tuple[str, Any]:
        """The argument and value of a NAME=VALUE, where the value is JSON, or else text.

        Raises:
            ValueError: no such argument, or not such a value for it.
        """
        name, sign, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ValueError(f"--set takes NAME=VALUE, such as num_inference_steps=30, got {assignment!r}.")
        if name not in self:
            similar = difflib.get_close_matches(name, self.settable, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"it takes {', '.join(self.settable)}."
            raise ValueError(f"{self.name} has no argument {name!r}; {hint}")
        if name not in self.settable:
            option = OWNED.get(name)
            remedy = f"give {option}" if option else "call the pipeline from Python"
            raise ValueError(f"{name} can't be given with --set; {remedy} instead.")
        value = _parsed(text)
        if not _fits(value, self.hints[name]):
            value = text
        return name, self.checked(name, value, f"--set {name}")

    def recorded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a request's arguments that --set could give, and the size: what is written down with a video."""
        names = (*self.settable, "height", "width")
        return {name: values[name] for name in names if name in values and values[name] is not None}


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in _UNIONS else (hint,)


def _is_sequence(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _is_plain(hint: Any) -> bool:
    """Whether some value other than null can be written for it."""
    return any((part in _WORDS and part is not type(None)) or _is_sequence(part) for part in _members(hint))


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, part) for part in _members(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    if _is_sequence(hint):
        return isinstance(value, (list, tuple)) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return hint in _WORDS and type(value) is hint


def _words(hint: Any) -> str:
    said = []
    for part in _members(hint):
        if part in _WORDS and part is not type(None):
            said.append(_WORDS[part])
        elif _is_sequence(part):
            said.append("a list (in JSON) of which each is " + _words(get_args(part)[0]))
    return " or ".join(said)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)

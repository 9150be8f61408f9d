"""What a pipeline's call takes: the one place of this folder that knows names of its arguments."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from filmstrip.hints import fits, is_plain, words_of
from filmstrip.json_files import cut, parse_json, shown

if TYPE_CHECKING:
    from filmstrip.assembly import Pipeline

# Arguments that a job sets itself, with the option that a user of the command has for them.
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
OPTIONS = {
    "prompt": "PROMPT",
    "negative_prompt": "--negative-prompt",
    "num_frames": "--num-frames",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "width": "--size",
    "height": "--size",
}
"""Arguments with options of their own in the command; they are among those that --set takes, but for the size."""
TEXTS = ("prompt", "negative_prompt")
SIDES = ("height", "width")
LENGTH = "num_frames"
RATE = "frame_rate"
"""A family's default of that name is the rate of its videos, whether or not calls can choose it."""
TELLING = ("num_inference_steps", "guidance_scale")
"""Arguments that are worth a line of their own where a job is told."""
_PICTURES = ("image",)
# What the pictures or clips that are given make of a task.
_TASKS = {"control_video": "control-to-video", "video": "video-to-video", "image": "image-to-video"}
# How much of a clip is made anew, and what else says which of its frames are held fast.
CHANGE = "denoise_strength"
CHANGES = f"{CHANGE}|strength"
"""What pipelines call how much of a clip they change."""
_HOLDING = frozenset({CHANGE, "strength", "frame_index"})


def is_clip(name: str) -> bool:
    """Whether an argument takes a clip, and not one picture."""
    return name not in _PICTURES


def task_of(inputs: Collection[str]) -> str:
    """The task of a job that is given these pictures and clips."""
    return next(task for name, task in _TASKS.items() if name in inputs)


def parse_sides(text: str) -> dict[str, int]:
    """The arguments for a size such as "704x512", of width and height."""
    width, _, height = text.lower().replace("*", "x").partition("x")
    if not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise ValueError(f"--size takes WIDTHxHEIGHT in pixels, such as 704x512, got {shown(text)}.")
    return {"width": int(width), "height": int(height)}


class PipelineCall:
    """The arguments of a pipeline class's call."""

    def __init__(self, pipeline_class: type[Pipeline]) -> None:
        self.name = pipeline_class.__name__
        from filmstrip.generation.arguments import facts_of  # not before a job is resolved: it loads torch

        self.facts = facts_of(pipeline_class.arguments)
        hints = get_type_hints(pipeline_class.arguments)
        self.hints: dict[str, Any] = {name: hints[name] for name in self.facts}

    @property
    def length(self) -> str | None:
        """The argument that says how many frames to make, if there is one."""
        return next((name for name, fact in self.facts.items() if fact.role == "length"), None)

    @property
    def rate(self) -> str | None:
        """The argument that says how many frames a second the motion is meant for, if there is one."""
        return next((name for name, fact in self.facts.items() if fact.role == "rate"), None)

    def __contains__(self, name: str) -> bool:
        return name in self.hints

    def only_repeats(self, arguments: Collection[str], clips: Mapping[str, Sequence[object]], num_frames: int) -> bool:
        """Whether a video of so many frames is the given clip over again, since the clip holds every one of them fast.

        Args:
            arguments: names of those that are given.
            clips: argument to the frames that it is given.
        """
        clip = clips.get("video")
        if clip is None or CHANGE not in self or _HOLDING & {*arguments}:
            return False
        return len(clip) >= num_frames

    @property
    def settable(self) -> list[str]:
        """Arguments that --set takes: those whose values can be written as JSON or text."""
        return [name for name, hint in self.hints.items() if name not in OWNED and is_plain(hint)]

    def checked(self, name: str, value: object, said: str) -> object:
        """The value, if the call takes that argument and such a value.

        Args:
            said: how the user gave it, such as "--steps".
        """
        if name not in self:
            raise ValueError(
                f"{said or shown(said)} has no effect: {self.name} takes no {name or shown(name)}; drop it."
            )
        if not fits(value, self.hints[name]):
            raise ValueError(f"{said} takes {words_of(self.hints[name])}, got {_shown(value)}.")
        return value

    def parse(self, assignment: str) -> tuple[str, object]:
        """The argument and value of a NAME=VALUE, where the value is JSON, or else text.

        Raises:
            ValueError: no such argument, or not such a value for it.
        """
        name, sign, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ValueError(f"--set takes NAME=VALUE, such as num_inference_steps=30, got {shown(assignment)}.")
        if name not in self:
            similar = difflib.get_close_matches(name, self.settable, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"it takes {', '.join(self.settable)}."
            raise ValueError(f"{self.name} has no argument {shown(name)}; {hint}")
        if name not in self.settable:
            option = OWNED.get(name)
            remedy = f"give {option}" if option else "call the pipeline from Python"
            raise ValueError(f"{name} can't be given with --set; {remedy} instead.")
        value = _parsed(text)
        if not fits(value, self.hints[name]):
            value = text
        return name, self.checked(name, value, f"--set {name}")

    def recorded(self, values: Mapping[str, object]) -> dict[str, object]:
        """Those of a request's arguments that --set could give, and the size: what is written down with a video."""
        names = (*self.settable, *SIDES)
        return {name: values[name] for name in names if name in values and values[name] is not None}


def _parsed(text: str) -> object:
    try:
        value: object = parse_json(text)
    except ValueError:
        return text
    return value


def _shown(value: object) -> str:
    return shown(value) if isinstance(value, str) else cut(json.dumps(value, default=str))

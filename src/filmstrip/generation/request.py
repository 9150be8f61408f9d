"""One frozen record of what a call asked for, checked before any work starts."""

from __future__ import annotations

import collections.abc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.checks import check_whole_number, known
from filmstrip.generation.arguments import Arguments, Noised, Prompted, Sized, Watched, check_ranges, without_effect
from filmstrip.generation.events import TOLD
from filmstrip.generation.resolve import Resolved, Rules, check_held, resolve
from filmstrip.json_files import shown
from filmstrip.media.pixels import preprocess_video
from filmstrip.randomness import Generators

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Arguments, covariant=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Request(Generic[A]):
    """What one run is to do: the arguments of its call, completed and checked, and what the checks have found.

    A pipeline that reads pictures or clips while it checks has a request of its own, with fields for them.
    """

    arguments: A
    size: Resolved
    num_videos: int
    """Videos of the whole batch: prompts times videos for each."""
    num_videos_per_prompt: int = 1
    generator: Generators = None
    prompts: tuple[str, ...] | None = None
    negative_prompts: tuple[str, ...] | None = None

    @property
    def output_type(self) -> str:
        """What the frames are to be given as."""
        return self.arguments.output_type

    @property
    def num_prompts(self) -> int:
        """Different prompts, each for `num_videos_per_prompt` videos."""
        return self.num_videos // self.num_videos_per_prompt

    def per_video(self, given: Tensor) -> Tensor:
        """Rows that are one for all or one for each prompt, (rows, ...), as one for each video of the batch."""
        rest = [-1] * (given.dim() - 1)
        return given.expand(self.num_prompts, *rest).repeat_interleave(self.num_videos_per_prompt, 0)


R = TypeVar("R", bound=Request[Any])


def prompted(
    kind: Callable[..., R], arguments: Prompted, size: Resolved, callback_tensors: Sequence[str], **found: Any
) -> R:
    """The request of a call with prompts: the checks of the arguments that every such call has.

    Args:
        kind: the class of the request.
        callback_tensors: what a step-end callback may ask for.
        found: what other checks have found, by the request's fields.

    Raises:
        ValueError: an argument makes no sense, or can have no effect.
    """
    prompts, negatives, count = check_prompts(
        arguments.prompt, arguments.negative_prompt, arguments.embeds, is_guided=arguments.is_guided
    )
    found |= {"prompts": prompts, "negative_prompts": negatives}
    return requested(kind, arguments, size, callback_tensors, count, arguments.videos_per_prompt, **found)


def requested(
    kind: Callable[..., R],
    arguments: Watched,
    size: Resolved,
    callback_tensors: Sequence[str],
    count: int,
    per_prompt: tuple[str, int],
    **found: Any,
) -> R:
    """The request of a call for so many prompts, or pictures where a model takes no prompts; see `prompted`.

    Args:
        per_prompt: the name of the argument that says how many videos there are of each, and its value.
    """
    check_ranges(arguments)
    if isinstance(arguments, Noised):
        arguments.check_noise()
    num_videos = count * check_whole_number(*per_prompt)
    check_callback(arguments, callback_tensors)
    check_held(size, num_videos)
    adjustments = [*size.adjustments]
    if unused := list(without_effect(arguments)):
        adjustments.append(f"Without guidance (guidance_scale of 1 or less), {', '.join(unused)} has no effect.")
    for sentence in adjustments:
        logger.warning(sentence, extra=TOLD)
    return kind(
        arguments=arguments,
        size=replace(size, adjustments=tuple(adjustments)),
        num_videos=num_videos,
        num_videos_per_prompt=per_prompt[1],
        generator=check_generator(arguments.generator, num_videos),
        **found,
    )


def adjusted(request: R, *sentences: str) -> R:
    """The request with further sentences on what differs from what was asked; they are told."""
    for sentence in sentences:
        logger.warning(sentence, extra=TOLD)
    return replace(request, size=replace(request.size, adjustments=(*request.size.adjustments, *sentences)))


def check_prompts(
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    embeds: Mapping[str, Tensor | None],
    *,
    is_guided: bool,
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, int]:
    """The prompts, the negative prompts (one for each), and how many there are.

    Args:
        embeds: the call's prompt_embeds and negative_prompt_embeds, and their masks if it has such.
        is_guided: whether negative prompts are used at all.

    Raises:
        ValueError: nothing to start from, the same thing given twice, or a mask missing.
    """
    given = embeds["prompt_embeds"]
    if prompt is None and given is None:
        raise ValueError("Neither prompt nor prompt_embeds was given; pass one of them.")
    if prompt is not None and given is not None:
        raise ValueError("Both prompt and prompt_embeds were given; pass only one of them.")
    if negative_prompt is not None and embeds["negative_prompt_embeds"] is not None:
        raise ValueError("Both negative_prompt and negative_prompt_embeds were given; pass only one of them.")
    for name in ("prompt", "negative_prompt"):
        if f"{name}_attention_mask" not in embeds:
            continue
        if embeds[f"{name}_embeds"] is not None and embeds[f"{name}_attention_mask"] is None:
            raise ValueError(f"{name}_embeds needs {name}_attention_mask, which says which of its tokens are real.")
        if embeds[f"{name}_embeds"] is None and embeds[f"{name}_attention_mask"] is not None:
            raise ValueError(f"{name}_attention_mask has no effect without {name}_embeds; drop it or pass both.")
    prompts = None if prompt is None else _texts("prompt", prompt)
    count = len(prompts) if prompts is not None else len(given) if given is not None else 0

    negatives = None
    if is_guided and embeds["negative_prompt_embeds"] is None:
        negatives = _texts("negative_prompt", negative_prompt if negative_prompt is not None else "")
        negatives = negatives * count if len(negatives) == 1 else negatives
        if len(negatives) != count:
            raise ValueError(
                f"{len(negatives)} negative prompts were given for {count} prompts; pass one, or one each."
            )
    _check_same_shapes(embeds, count)
    return prompts, negatives, count


def _texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else None
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a text or a list of texts, got {shown(value)}.")
    return texts


def _check_same_shapes(embeds: Mapping[str, Tensor | None], count: int) -> None:
    positive, negative = embeds["prompt_embeds"], embeds["negative_prompt_embeds"]
    if positive is not None and negative is not None and positive.shape != negative.shape:
        shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(f"prompt_embeds and negative_prompt_embeds must have the same shape, got {shapes}.")
    if positive is None and negative is not None and len(negative) != count:
        raise ValueError(f"negative_prompt_embeds has {len(negative)} rows for {count} prompts; give one for each.")


def asked(rules: Rules, sized: Sized, num_frames: int, frame_rate: float) -> Resolved:
    """What has to be made for a call's size, completed, and a length."""
    height, width = known(sized.height), known(sized.width)
    return resolve(rules, height=height, width=width, num_frames=num_frames, frame_rate=frame_rate)


def read_clips(rules: Rules, clips: Any, sized: Sized) -> Tensor:
    """The pixels of one clip or several in the size of the video to make, (clips, 3, frames, height, width)."""
    size = asked(rules, sized, 1, 1)  # says what is wrong with a size
    return preprocess_video(clips, size.height, size.width)


def check_shape(name: str, latents: Tensor, *shapes: tuple[int, ...], asked_for: str = "size and length") -> None:
    """See that latents have one of the shapes that a request asks for.

    Args:
        asked_for: what of the request the shapes follow from, for the message.
    """
    if tuple(latents.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have the shape {allowed} for this {asked_for}, got {tuple(latents.shape)}.")


def check_steps(num_inference_steps: Any, timesteps: collections.abc.Sized | None, usual_steps: int) -> None:
    """See that a number of steps makes sense and does not contradict the call's own timesteps."""
    steps = check_whole_number("num_inference_steps", num_inference_steps)
    if timesteps is not None and steps not in (len(timesteps), usual_steps):
        raise ValueError(f"num_inference_steps ({steps}) has no effect with {len(timesteps)} timesteps; drop it.")


def check_generator(generator: Any, num_videos: int) -> Generators:
    """The generator or generators of a run; a NumPy generator is taken as a source of seeds.

    Raises:
        ValueError: something else, or a list of the wrong length.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, (list, tuple)):
        if len(generator) != num_videos:
            raise ValueError(
                f"{len(generator)} generators were given for {num_videos} videos; give one, or one for each."
            )
        return [_torch_generator(one) for one in generator]
    return _torch_generator(generator)


def _torch_generator(generator: Any) -> torch.Generator:
    if isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, np.random.Generator):
        return torch.Generator().manual_seed(int(generator.integers(2**63)))
    raise ValueError(
        f"generator must be a torch.Generator, a list of them or a NumPy generator, got {shown(generator)}."
    )


def check_callback(watched: Watched, allowed: Sequence[str]) -> None:
    """See that a step-end callback can be served."""
    callback = watched.callback_on_step_end
    if callback is not None and not callable(callback):
        raise ValueError(f"callback_on_step_end must be callable, got {shown(callback)}.")
    unknown = [name for name in watched.callback_on_step_end_tensor_inputs if name not in allowed]
    if unknown:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs knows {', '.join(allowed)}, got {', '.join(map(repr, unknown))}."
        )

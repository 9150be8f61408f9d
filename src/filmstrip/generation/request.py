"""One frozen record of what a call asked for, checked before any work starts."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from filmstrip.generation.events import TOLD
from filmstrip.generation.keeping import Keeper
from filmstrip.generation.resolving import Resolved, Rules, resolve
from filmstrip.media.pixels import preprocess_video
from filmstrip.nn.noise import Generators

logger = logging.getLogger(__name__)

OUTPUT_TYPES = ("pil", "np", "pt", "uint8", "latent")
EMBEDS = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
_PER_PROMPT = ("num_videos_per_prompt", "num_images_per_prompt")
_ONLY_GUIDED = ("negative_prompt", "negative_prompt_embeds", "guidance_rescale", "use_dynamic_cfg")


@dataclass(frozen=True)
class Request:
    """What one run is to do. Fields that all pipelines share are named; the rest of the call is in `options`."""

    prompts: tuple[str, ...] | None
    negative_prompts: tuple[str, ...] | None
    size: Resolved
    num_videos: int
    """Videos of the whole batch: prompts times videos for each."""
    num_videos_per_prompt: int
    generator: Generators
    output_type: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    keeper: Keeper | None = None
    """Keeps what is done of the run, if that is wanted."""

    def __getitem__(self, name: str) -> Any:
        return self.options[name]

    @property
    def num_prompts(self) -> int:
        """Different prompts, each for `num_videos_per_prompt` videos."""
        return self.num_videos // self.num_videos_per_prompt

    def per_video(self, given: Tensor) -> Tensor:
        """Rows that are one for all or one for each prompt, (rows, ...), as one for each video of the batch."""
        rest = [-1] * (given.dim() - 1)
        return given.expand(self.num_prompts, *rest).repeat_interleave(self.num_videos_per_prompt, 0)

    def with_options(self, **options: Any) -> Request:
        """The same request with further options: what a check has found out already."""
        return replace(self, options=MappingProxyType({**self.options, **options}))


def complete_arguments(pipeline: type, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of a pipeline's call: as given, else the checkpoint's or family's default, else the call's own.

    Raises:
        ValueError: an argument that the call does not have.
    """
    parameters = list(inspect.signature(pipeline.__call__).parameters.values())[1:]
    values = {parameter.name: parameter.default for parameter in parameters}
    for name, value in arguments.items():
        check_choice(f"An argument of {pipeline.__name__}", name, values)
        values[name] = value
    return values | {name: default for name, default in defaults.items() if name in values and values[name] is None}


def make_request(values: dict[str, Any], size: Resolved, callback_tensors: Sequence[str]) -> Request:
    """The request of a call with prompts: the checks of the arguments that every such call has.

    Args:
        values: the call's completed arguments.
        callback_tensors: what a step-end callback may ask for.

    Raises:
        ValueError: an argument makes no sense, or can have no effect.
    """
    per_prompt_name = next(name for name in _PER_PROMPT if name in values)
    per_prompt = check_whole_number(per_prompt_name, values[per_prompt_name])
    if "max_sequence_length" in values:
        check_whole_number("max_sequence_length", values["max_sequence_length"])
    check_choice("output_type", values["output_type"], OUTPUT_TYPES)
    tensor_inputs = values["callback_on_step_end_tensor_inputs"]
    check_callback(values["callback_on_step_end"], tensor_inputs, callback_tensors)
    if values.get("attention_kwargs"):
        raise ValueError("attention_kwargs has no effect without adapters; drop it.")
    is_guided = values["guidance_scale"] > 1
    embeds = {name: values[name] for name in EMBEDS if name in values}
    prompts, negatives, count = check_prompts(values["prompt"], values["negative_prompt"], embeds, is_guided=is_guided)
    adjustments = [*size.adjustments]
    unused = [name for name in _ONLY_GUIDED if not is_guided and _is_set(values.get(name))]
    if unused:
        adjustments.append(f"Without guidance (guidance_scale of 1 or less), {', '.join(unused)} has no effect.")
    for sentence in adjustments:
        logger.warning(sentence, extra=TOLD)
    return Request(
        prompts=prompts,
        negative_prompts=negatives,
        size=replace(size, adjustments=tuple(adjustments)),
        num_videos=count * per_prompt,
        num_videos_per_prompt=per_prompt,
        generator=check_generator(values["generator"], count * per_prompt),
        output_type=values["output_type"],
        options=MappingProxyType(values),
    )


def _is_set(value: Any) -> bool:
    return value is not None if isinstance(value, Tensor) else bool(value)


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
    if prompts is not None and not all(text.strip() for text in prompts):
        which = "The prompt" if len(prompts) == 1 else "One of the prompts"
        raise ValueError(f'{which} is empty; describe the video, for example "a red star spinning".')
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
        raise ValueError(f"{name} must be a text or a list of texts, got {value!r}.")
    return texts


def _check_same_shapes(embeds: Mapping[str, Tensor | None], count: int) -> None:
    positive, negative = embeds["prompt_embeds"], embeds["negative_prompt_embeds"]
    if positive is not None and negative is not None and positive.shape != negative.shape:
        shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(f"prompt_embeds and negative_prompt_embeds must have the same shape, got {shapes}.")
    if positive is None and negative is not None and len(negative) != count:
        raise ValueError(f"negative_prompt_embeds has {len(negative)} rows for {count} prompts; give one for each.")


def read_clips(rules: Rules, clips: Any, values: Mapping[str, Any]) -> Tensor:
    """The pixels of one clip or several in the size of the video to make, (clips, 3, frames, height, width)."""
    height, width = values["height"], values["width"]
    resolve(rules, height=height, width=width, num_frames=1, frame_rate=1)  # says what is wrong with a size
    return preprocess_video(clips, height, width)


def check_steps(num_inference_steps: Any, timesteps: Sized | None, usual_steps: int) -> None:
    """See that a number of steps makes sense and does not contradict the call's own timesteps."""
    steps = check_whole_number("num_inference_steps", num_inference_steps)
    if timesteps is not None and steps not in (len(timesteps), usual_steps):
        raise ValueError(f"num_inference_steps ({steps}) has no effect with {len(timesteps)} timesteps; drop it.")


def check_count(name: str, given: Sized, num_prompts: int) -> None:
    """See that there is one of something, or one for each prompt."""
    if len(given) not in (1, num_prompts):
        raise ValueError(f"{len(given)} {name} were given for {num_prompts} prompts; give one, or one for each.")


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
    raise ValueError(f"generator must be a torch.Generator, a list of them or a NumPy generator, got {generator!r}.")


def check_whole_number(name: str, value: Any, at_least: int = 1) -> int:
    """The value, if it is a whole number that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}.")
    return value


def check_share(name: str, value: float) -> float:
    """The value, if it lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}.")
    return value


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """The value, if it is one of the choices."""
    if value not in choices:
        similar = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.{hint}")
    return value


def check_callback(callback: Callable[..., Any] | None, tensor_inputs: Sequence[str], allowed: Sequence[str]) -> None:
    """See that a step-end callback can be served."""
    if callback is not None and not callable(callback):
        raise ValueError(f"callback_on_step_end must be callable, got {callback!r}.")
    unknown = [name for name in tensor_inputs if name not in allowed]
    if unknown:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs knows {', '.join(allowed)}, got {', '.join(map(repr, unknown))}."
        )

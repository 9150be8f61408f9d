"""Arguments of calls as data: a pipeline's are a dataclass composed of these, each field with its sentence and range.

From the same fields come the signature and help of the call, the checks, the command's options, the tables of the
documentation, and what `fit` puts in place of a text or a picture that it is not given. Fields of the last base class
come first: `class Arguments(Sized, Prompted)` takes the prompt and then the size. What follows `KW_ONLY` has no place.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from torch import Tensor

from filmstrip.checks import check_choice, check_share, check_whole_number, known

MOST_TOKENS = 8192
"""Of a prompt: encoders are trained for a few hundred, and every token looks at every other."""
OUTPUT_TYPES = ("pil", "np", "pt", "uint8", "latent")
Texts = str | Sequence[str]
Role = Literal["text", "picture", "clip", "length", "rate", "side"]
"""What an argument is for, as far as others than the pipeline act by it: a plan, the command, a server."""


@dataclass(frozen=True)
class Fact:
    """What is known of an argument beside its name, type and default."""

    sentence: str
    """What it is, for help and documentation."""
    range: str = ""
    """What values make sense: "count", a whole number of at least 1; "tokens", of those up to what an encoder takes in;
    "share", from 0 to 1."""
    choices: tuple[str, ...] = ()
    role: Role | None = None
    instead: str = ""
    """The argument that may be given in its place."""
    only_guided: bool = False
    """Whether it has no effect without guidance."""
    is_data: bool = True
    """Whether it can be written down with the rest of the call; callbacks can't."""

    @property
    def words(self) -> str:
        """The range as a reader wants it."""
        return {"count": "at least 1", "tokens": f"from 1 to {MOST_TOKENS}", "share": "from 0 to 1"}.get(self.range, "")


def argument(sentence: str, default: Any = None, **facts: Any) -> Any:
    """A field of a call's arguments; see `Fact`. None stands for the checkpoint's or the family's default, if any."""
    return dataclasses.field(default=default, metadata={"fact": Fact(sentence, **facts)})


# ---- what calls are composed of --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Arguments:
    """What every call takes."""

    generator: Any = argument("source of all randomness; a list has one for each video.", is_data=False)
    output_type: str = argument(
        '"pil", "np", "pt", "uint8" or "latent"; see `VideoOutput`.', "pil", choices=OUTPUT_TYPES
    )
    return_dict: bool = argument("whether to return named fields and not a tuple.", True)

    @property
    def guidance(self) -> float:
        """How strongly the prompt is followed."""
        return 1.0

    def guides_at(self, scale: float) -> bool:
        """Whether there is guidance at this scale: whether the network is asked for what is not wanted, too."""
        return scale > 1

    @property
    def is_guided(self) -> bool:
        """Whether the run begins with guidance."""
        return self.guides_at(self.guidance)

    def in_turn(self: A) -> A | None:
        """The same call with the network's predictions made in turn, for less memory; None: that can't be chosen."""
        return None


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, eq=False, kw_only=True)
class Watched(Arguments):
    """A callback that sees, and may change, what every step leaves."""

    callback_on_step_end: Callable[..., Any] | None = argument(
        "called as (pipeline, step, timestep, tensors) after every step; what it returns under a tensor's name replaces"
        " that tensor. Setting `pipeline._interrupt` ends the denoising, and setting `pipeline._guidance_scale` changes"
        " the guidance of the next steps.",
        is_data=False,
    )
    callback_on_step_end_tensor_inputs: Sequence[str] = argument("the tensors it is given.", ("latents",))


@dataclass(frozen=True, eq=False, kw_only=True)
class InTurn(Arguments):
    """Guidance whose predictions can be made one after the other."""

    sequential_guidance: bool | None = argument(
        "run the network for the prompt and against it in turn: less memory, more time; None: as `fit` chose, else "
        "together."
    )

    def in_turn(self: T) -> T | None:
        """The same call with guidance in turn, if there is guidance and the call does not say."""
        if self.sequential_guidance is None and self.is_guided:
            return dataclasses.replace(self, sequential_guidance=True)
        return None


T = TypeVar("T", bound=InTurn)


@dataclass(frozen=True, eq=False, kw_only=True)
class Guided(InTurn):
    """Classifier-free guidance."""

    guidance_scale: float | None = argument(
        "how strongly to follow the prompt (arXiv:2207.12598); 1 is not at all, at half the cost."
    )

    @property
    def guidance(self) -> float:
        """How strongly the prompt is followed."""
        return known(self.guidance_scale)

    @property
    def rescale(self) -> float:
        """How far the contrast of guidance is brought back, from 0 (not) to 1 (fully)."""
        return 0.0


@dataclass(frozen=True, eq=False)
class Rescaled(Guided):
    """Guidance whose contrast is brought back."""

    _: KW_ONLY
    guidance_rescale: float = argument(
        "against overexposure (arXiv:2305.08891, section 3.4).", 0.0, range="share", only_guided=True
    )

    @property
    def rescale(self) -> float:
        """How far the contrast of guidance is brought back."""
        return self.guidance_rescale


@dataclass(frozen=True, eq=False)
class Prompted(Guided, Watched):
    """A text, what it is not to show, or embeddings in their place."""

    prompt: Texts | None = argument("what the video shows; a list makes a batch.", role="text", instead="prompt_embeds")
    _: KW_ONLY
    negative_prompt: Texts | None = argument("what it does not show; used with guidance.", only_guided=True)

    @property
    def videos_per_prompt(self) -> tuple[str, int]:
        """The name of the argument that says how many there are of each prompt, and its value; one if none."""
        return "num_videos_per_prompt", 1

    @property
    def embeds(self) -> dict[str, Tensor | None]:
        """The embeddings, and masks if the model has such, in place of prompt and negative prompt, by their names."""
        return {"prompt_embeds": None, "negative_prompt_embeds": None}


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeated(Prompted):
    """Several videos of each prompt."""

    num_videos_per_prompt: int = argument("videos for each prompt, which differ in their noise.", 1, range="count")

    @property
    def videos_per_prompt(self) -> tuple[str, int]:
        """The name of the argument that says how many there are of each prompt, and its value."""
        return "num_videos_per_prompt", self.num_videos_per_prompt


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedded(Prompted):
    """Embeddings in place of texts."""

    prompt_embeds: Tensor | None = argument("from `encode_prompt`, in place of `prompt`.")
    negative_prompt_embeds: Tensor | None = argument("the same for `negative_prompt`.", only_guided=True)

    @property
    def embeds(self) -> dict[str, Tensor | None]:
        """The embeddings by their names, and their masks where a call takes such."""
        names = (f"{sign}prompt_{what}" for sign in ("", "negative_") for what in ("embeds", "attention_mask"))
        return {name: getattr(self, name) for name in names if hasattr(self, name)}


@dataclass(frozen=True, eq=False)
class Sized(Arguments):
    """Height and width."""

    height: int | None = argument("in pixels; a multiple of what the model compresses to one latent.", role="side")
    width: int | None = argument("as `height`.", role="side")


@dataclass(frozen=True, eq=False)
class Lasting(Arguments):
    """A length of one's choice."""

    num_frames: int | None = argument("exactly so many frames come out.", role="length")


@dataclass(frozen=True, eq=False)
class Sampled(Arguments):
    """Steps, from noise to a video."""

    num_inference_steps: int | None = argument("more steps, more detail, more time.", range="count")
    _: KW_ONLY
    latents: Tensor | None = argument("the initial noise, (batch, channels, frames, height, width).")

    @property
    def num_steps(self) -> int:
        """Steps of the schedule, where the call has no timesteps of its own."""
        return known(self.num_inference_steps)


@dataclass(frozen=True, eq=False, kw_only=True)
class Noised(Sampled):
    """Noise of which the frames of a video have a part in common."""

    base_noise_share: float = argument(
        "of the initial noise, the part that all frames of a video have in common (arXiv:2303.08320); networks are "
        "trained for one value, mostly 0.",
        0.0,
        range="share",
    )

    def check_noise(self) -> None:
        """See that noise is drawn, if it is to be drawn in some way."""
        if self.base_noise_share and self.latents is not None:
            raise ValueError("base_noise_share has no effect with latents, which are the noise themselves; drop it.")


# ---- completing and checking -----------------------------------------------------------------------------------------


def facts_of(arguments: type[Arguments]) -> Mapping[str, Fact]:
    """What is known of each argument, in the order of the signature."""
    return {name: one.metadata["fact"] for name, one in _fields(arguments).items()}


def _fields(arguments: type[Arguments]) -> Mapping[str, dataclasses.Field[Any]]:
    fields = dataclasses.fields(arguments)
    by_place = [one for one in fields if not one.kw_only]
    return {one.name: one for one in (*by_place, *fields)}


def completed(arguments: A, defaults: Mapping[str, Any]) -> A:
    """The arguments with the checkpoint's or the family's defaults in place of None.

    Where an argument is given in the place of another one, that has no default.
    """
    missing = [name for name in _fields(type(arguments)) if name in defaults and getattr(arguments, name) is None]
    instead = {name: fact.instead for name, fact in facts_of(type(arguments)).items()}
    left = [name for name in missing if getattr(arguments, instead[name] or name, None) is None]
    return dataclasses.replace(arguments, **{name: defaults[name] for name in left})


def arguments_named(kind: type[A], given: Mapping[str, Any], owner: str) -> A:
    """The arguments of a call by name.

    Raises:
        ValueError: there is none of that name.
    """
    for name in given:
        check_choice(f"An argument of {owner}", name, _fields(kind))
    return kind(**given)


def check_ranges(arguments: Arguments) -> None:
    """See that arguments lie in their ranges."""
    for name, fact in facts_of(type(arguments)).items():
        value = getattr(arguments, name)
        if value is None:
            continue
        if fact.range == "count":
            check_whole_number(name, value)
        elif fact.range == "tokens":
            if check_whole_number(name, value) > MOST_TOKENS:
                raise ValueError(f"{name} can be {MOST_TOKENS:,} at most, got {value}.")
        elif fact.range == "share":
            check_share(name, value)
        elif fact.choices:
            check_choice(name, value, fact.choices)


def without_effect(arguments: Arguments) -> Iterator[str]:
    """Names of the arguments that were given and that have no effect without guidance, of a call that has none."""
    if arguments.is_guided:
        return
    for name, fact in facts_of(type(arguments)).items():
        value = getattr(arguments, name)
        if fact.only_guided and (value is not None if isinstance(value, Tensor) else value):
            yield name


# ---- calls -----------------------------------------------------------------------------------------------------------

P = ParamSpec("P")
Returned = TypeVar("Returned")


def call(
    arguments: Callable[P, Arguments], output: type[Returned], title: str
) -> Callable[Concatenate[Any, P], Returned]:
    """The `__call__` of a pipeline that takes such arguments and returns such an output, or a tuple of its fields.

    Args:
        title: what a call does, for help; the arguments follow.
    """
    kind = typing.cast("type[Arguments]", arguments)
    names = [name for name, one in _fields(kind).items() if not one.kw_only]

    def __call__(self: Any, /, *positional: Any, **named: Any) -> Any:
        # Bound here, so that an error names the pipeline.
        owner = type(self).__name__
        if len(positional) > len(names):
            raise TypeError(
                f"{owner} takes {len(names)} arguments by position ({', '.join(names)}), got {len(positional)}; "
                "give the others by name."
            )
        for name, value in zip(names, positional, strict=False):
            if name in named:
                raise TypeError(f"{owner} got {name} twice, by position and by name; drop one.")
            named[name] = value
        if unknown := named.keys() - _fields(kind).keys():
            raise TypeError(f"{owner} {_unknown(sorted(unknown)[0], _fields(kind))}")
        return self.returned(self.requested(kind(**named)))

    __call__.__signature__ = signature(kind, output)  # type: ignore[attr-defined]
    __call__.__doc__ = title
    __call__.__annotations__ = {}
    __call__.arguments = kind  # type: ignore[attr-defined]
    return __call__


def _unknown(name: str, known_names: Iterable[str]) -> str:
    similar = difflib.get_close_matches(name, known_names, n=1)
    return f"got an unexpected keyword argument {name!r}" + (f"; did you mean {similar[0]!r}?" if similar else ".")


def signature(kind: type[Arguments], output: type[Any]) -> inspect.Signature:
    """The signature of a call with such arguments."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY if one.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=one.default,
            annotation=one.type,
        )
        for name, one in _fields(kind).items()
    ]
    return inspect.Signature([own, *parameters], return_annotation=output)


def documentation_of(title: str, kind: type[Arguments], defaults: Mapping[str, Any]) -> str:
    """The documentation of a call: its title and every argument with its sentence, its range and its default."""
    lines = [title, "", "Args:"]
    for name, fact in facts_of(kind).items():
        default = _fields(kind)[name].default
        told = [fact.words] if fact.words else []
        if default is None and name in defaults:
            told.append(f"{defaults[name]!r} if left out")
        sentence = fact.sentence.rstrip(".")
        said = f"{name}: {'; '.join([sentence, *told])}."
        lines.append(textwrap.fill(said, 100, initial_indent="    ", subsequent_indent="        "))
    return "\n".join(lines) + _RAISES


_RAISES = """

Raises:
    ValueError: the model can't do what is asked, or the arguments contradict each other.
    NonFiniteError: a component gave infinities or NaNs.
"""

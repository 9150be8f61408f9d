"""Settings of schedulers as data: a scheduler's are a dataclass composed of these, each field with its sentence.

From the same fields come the signature and help of the constructor, the record of what it was given, and the checks of
names. Fields of the last base class come first, and what follows `KW_ONLY` is given by name. A subclass that has only
another default for a setting, or knows fewer of its names, says it anew without the sentence.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

from filmstrip.checks import check_choice
from filmstrip.schedulers.schedule import Numbers

Spacing = Literal["linspace", "leading", "trailing"]
OfNetwork = Literal["epsilon", "sample", "v_prediction"]
FinalLevel = Literal["zero", "sigma_min"]


def setting(sentence: str, default: Any, *, is_ours: bool = False) -> Any:
    """A field of a scheduler's settings: what it is, for help, and its default.

    Args:
        is_ours: other programs that read the config don't know it, so that it is written down only where it is given.
    """
    return dataclasses.field(default=default, metadata={"sentence": sentence, "is_ours": is_ours})


@dataclass(frozen=True, eq=False)
class Settings:
    """What a constructor was given, whose names are those that the types of the fields list."""

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Names that mean something to other solvers, under the same setting, and stand for the default here."""

    known_elsewhere: ClassVar[Collection[str] | None] = None
    """The settings that other programs know; None for all that are not said to be ours."""

    def __post_init__(self) -> None:
        for name, choices in choices_of(type(self)).items():
            check_choice(name, self.own(name), choices)

    def own(self, name: str) -> Any:
        """A setting, or its default in place of a foreign name."""
        value = getattr(self, name)
        return getattr(type(self), name) if value in self.foreign.get(name, ()) else value


# ---- what settings are composed of -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trained(Settings):
    """The noise that the network was trained with, and what it predicts."""

    num_train_timesteps: int = setting("how many timesteps the network was trained with.", 1000)
    beta_start: float = setting("variance of the noise that the first timestep of the training adds.", 0.0001)
    beta_end: float = setting("variance of the noise that the last one adds.", 0.02)
    beta_schedule: str = setting("how the variance grows between them.", "linear")
    trained_betas: Numbers | None = setting("the variances themselves.", None)
    _: KW_ONLY
    prediction_type: str = setting("what the network predicts.", "epsilon")


@dataclass(frozen=True, eq=False, kw_only=True)
class WithoutSignal(Settings):
    """Training up to pure noise."""

    rescale_betas_zero_snr: bool = setting("the last timestep of the training is pure noise.", False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Spaced(Settings):
    """The timesteps of a run."""

    timestep_spacing: Spacing = setting("how the timesteps of a run are spread over those of the training.", "linspace")
    steps_offset: int = setting("added to the timesteps of the leading spacing.", 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Exact(Settings):
    """Schedules as their equations have them."""

    exact_schedule: bool = setting(
        "each step leads to the very level where the next one begins, and a flow's levels are shifted once; without it"
        " the numbers are those of Diffusers.",
        False,
        is_ours=True,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Clipped(Settings):
    """A bound of the clean estimate."""

    clip_sample: bool = setting("bound the clean estimate of each step.", True)
    clip_sample_range: float = setting("that bound.", 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Thresholded(Settings):
    """A bound of the clean estimate that depends on it (arXiv:2205.11487, section 2.3)."""

    thresholding: bool = setting("bound the clean estimate of each step by a quantile of itself.", False)
    dynamic_thresholding_ratio: float = setting("that quantile.", 0.995)
    sample_max_value: float = setting("the highest such bound.", 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Respaced(Settings):
    """Noise levels that follow a rule instead of the timesteps; at most one."""

    use_karras_sigmas: bool | None = setting("respace the noise levels evenly in their seventh roots.", False)
    use_exponential_sigmas: bool | None = setting("respace them evenly in their logarithms.", False)
    use_beta_sigmas: bool | None = setting("respace them at quantiles of a beta distribution.", False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bounded(Respaced):
    """Noise levels that follow a rule between chosen ends."""

    sigma_min: float | None = setting("lower end of respaced noise levels; that of the schedule if None.", None)
    sigma_max: float | None = setting("their upper end.", None)


@dataclass(frozen=True, eq=False, kw_only=True)
class Shifted(Settings):
    """A flow's shift for each run."""

    use_dynamic_shifting: bool = setting("each run brings its own shift as `mu`, from its number of tokens.", False)
    time_shift_type: Literal["exponential", "linear"] = setting(
        "whether `mu` is the logarithm of that shift or the shift itself.", "exponential"
    )


# ---- constructors ----------------------------------------------------------------------------------------------------

P = ParamSpec("P")
Kind = TypeVar("Kind", bound=Settings)


def taking(kind: Callable[P, Kind]) -> Callable[[Callable[[Any, Kind], None]], Callable[Concatenate[Any, P], None]]:
    """Make of a constructor that takes settings together one that takes them one by one, and tells what they are."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([own, *inspect.signature(kind).parameters.values()], return_annotation=None)
    settings = typing.cast("type[Kind]", kind)

    def decorate(init: Callable[[Any, Kind], None]) -> Callable[Concatenate[Any, P], None]:
        @functools.wraps(init)
        def __init__(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                given = kind(*args, **kwargs)
            except TypeError as error:  # an unknown name, or too many; it tells whose they are
                raise TypeError(str(error).replace(settings.__name__, type(self).__name__)) from None
            init(self, given)

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        __init__.__doc__ = help_of(settings)
        __init__.__annotations__ = {}
        fields = dataclasses.fields(settings)
        known = settings.known_elsewhere
        ours = frozenset(
            one.name for one in fields if (one.metadata.get("is_ours") if known is None else one.name not in known)
        )
        __init__.recorded_if_given = ours  # type: ignore[attr-defined]
        return __init__

    return decorate


def choices_of(kind: type[Settings]) -> Mapping[str, tuple[str, ...]]:
    """The names that there are for each setting which is one of some names."""
    hints = typing.get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    return {name: typing.get_args(hints[name]) for name in names if typing.get_origin(hints[name]) is Literal}


def help_of(kind: type[Settings]) -> str:
    """Each setting with its sentence, as the `Args` of a docstring."""
    lines = ["What the settings describe.", "", "Args:"]
    for name in inspect.signature(kind).parameters:
        said = f"{name}: {sentence_of(kind, name)}"
        lines.append(textwrap.fill(said, 100, initial_indent="    ", subsequent_indent="        "))
    return "\n".join(lines)


def sentence_of(kind: type[Settings], name: str) -> str:
    """What a setting is, by the class nearest in line that says so."""
    fields = [vars(base).get("__dataclass_fields__", {}).get(name) for base in kind.__mro__]
    sentences = (one.metadata["sentence"] for one in fields if one is not None and "sentence" in one.metadata)
    return str(next(sentences))

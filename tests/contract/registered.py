"""What a pipeline class says about itself, so that the contract suite can run it.

A family joins by a file `cases.py` in its folder of tests, with a list `CASES`: a case or more for each of its pipeline
classes. Nothing else in the suite names a model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import filmstrip

SMALL_TOLERANCE = 3e-5  # of results whose arithmetic differs in its order only, in float32


@dataclass(frozen=True)
class Variation:
    """What becomes of a call when one of its arguments gets another value."""

    value: Any = None
    given: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, of the call with the other value and of the call that it is compared with."""
    error: str = ""
    """Words of the sentence that it must raise; without them the video must change."""
    elsewhere: str = ""
    """The test of this suite that shows what the argument does, where the video is not to change."""


def changes(value: Any, **given: Any) -> Variation:
    """The video must change."""
    return Variation(value, given)


def raises(value: Any, error: str, **given: Any) -> Variation:
    """The value can have no effect, or none that makes sense: a ValueError says so."""
    return Variation(value, given, error=error)


def shown_by(test: str) -> Variation:
    """The argument does something else than to change the video; that test shows it."""
    return Variation(elsewhere=test)


@dataclass(frozen=True)
class Case:
    """A pipeline class with tiny random weights, and a short call of it."""

    name: str
    """Of this case in the names of tests."""
    pipeline: str
    """The public name of the class."""
    make: Callable[[], Any]
    """A new pipeline, with the same weights every time."""
    call: Mapping[str, Any]
    """Arguments of a small video; neither a generator nor an output type."""
    variations: Mapping[str, Variation | Sequence[Variation]]
    """For each argument of the call: what another value does. `call` holds the other arguments."""
    batch: Mapping[str, Any] = field(default_factory=dict)
    """Arguments on top of `call` that ask for two different videos at once ..."""
    singles: Sequence[Mapping[str, Any]] = ()
    """... and those that ask for each of the two alone."""
    embeddings: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] | None = None
    """From the pipeline and a call, arguments that give it the embeddings of its prompts in their place."""
    output_type: str = "pil"
    """The output type of a call that names none."""
    field: str = "frames"
    """The first field of the output, which unpacking gives."""
    guidance: str = "guidance_scale"
    """The argument that says how strong guidance is; with 1 there is none."""
    extra_steps: int = 0
    """Denoising steps beside num_inference_steps."""
    bfloat16_error: float = 0.04
    """Bound of a bfloat16 video's error relative to float32, both in [-1, 1]; about twice of what was measured."""

    @property
    def pipeline_class(self) -> type[Any]:
        """The class itself."""
        return getattr(filmstrip, self.pipeline)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of its call."""
        parameters = dict(inspect.signature(self.pipeline_class.__call__).parameters)
        del parameters["self"]
        return parameters

    def takes(self, *names: str) -> bool:
        """Whether its call has all of these arguments."""
        return set(names) <= set(self.parameters)

    def variations_of(self, argument: str) -> Sequence[Variation]:
        """All that is said about one argument."""
        said = self.variations[argument]
        return [said] if isinstance(said, Variation) else said


def all_cases() -> list[Case]:
    """The cases of all families: of every folder `tests/models` on the path, so that a family elsewhere has its own."""
    folders = import_module("tests.models").__path__
    names = sorted({file.parent.name for folder in folders for file in Path(folder).glob("*/cases.py")})
    return [case for name in names for case in import_module(f"tests.models.{name}.cases").CASES]


CASES = all_cases()

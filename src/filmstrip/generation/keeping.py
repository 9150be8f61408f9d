"""What a run has done so far, kept in a file, so that no accident loses it.

Finished latents are kept before they are decoded, and noisy ones at every so many steps if that is wanted. A run that
goes on from a file makes its first steps over again without computing them: each is yielded with the latents that
were kept, so that whatever counts steps counts right, and then the loop goes on with all that it had in memory.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from filmstrip.generation import written
from filmstrip.generation.events import Step
from filmstrip.memory.casting import compute_dtype_of
from filmstrip.memory.coding import coding_settings
from filmstrip.nn.noise import NoiseState
from filmstrip.registry import BUILTIN_MODELS
from filmstrip.schedulers.base import memory_of, remember

if TYPE_CHECKING:
    from filmstrip.generation.request import Request
    from filmstrip.schedulers import Run

logger = logging.getLogger(__name__)

FORMAT = 1
SUFFIX = ".latents.safetensors"
_GIVEN_AGAIN = ("callback_on_step_end", "callback")
"""Options that are no data: who goes on gives them anew, or does without."""


@dataclass
class LoopState:
    """How far a denoising loop has come."""

    steps: int
    latents: Tensor
    memory: dict[str, Any]
    """Of the solver."""
    noise: NoiseState
    changes: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that a callback has replaced."""
    guidance_scale: float | None = None
    """The scale that a callback has set."""


@dataclass
class Unfinished:
    """A run that is not done, and all that finishing it needs beside the networks."""

    pipeline: str
    """Name of its class."""
    model: str
    """Name or folder of the checkpoint; empty if the pipeline came from none."""
    request: Request
    """Without its generators, for which `noise` stands, and callbacks."""
    noise: NoiseState
    """As the run began, or, of finished latents, as their decoding did."""
    dtypes: dict[str, torch.dtype]
    """Of the networks."""
    scheduler: str
    """Its class and settings."""
    coding: dict[str, Any]
    """How the autoencoder was set to divide its work."""
    latents: Tensor | None = None
    """As denoising left them; None before it was done."""
    loops: list[LoopState] = field(default_factory=list)
    """The denoising loops that have begun, all but the last of them done."""
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window."""
    every: int | None = None
    """After how many steps the file is written again."""
    about: dict[str, Any] = field(default_factory=dict)
    """What whoever began the run wants to know when it is finished."""
    quantized: dict[str, str] = field(default_factory=dict)
    """The networks whose weights are quantised, and how."""
    versions: dict[str, str] = field(default_factory=lambda: versions())
    format: int = FORMAT

    @property
    def is_denoised(self) -> bool:
        """Whether only the decoding is left."""
        return self.latents is not None

    def save(self, path: str | Path) -> None:
        """Write it to a file, whole or not at all."""
        written.write(Path(path), self._to_write())

    def check(self) -> None:
        """See that it can be written down.

        Raises:
            ValueError: an argument of the call can't.
        """
        try:
            written.check_writable(self._to_write())
        except written.Unwritable as error:
            raise ValueError(f"the steps of this run can't be kept: {error}") from error

    def _to_write(self) -> Unfinished:
        options = {name: value for name, value in self.request.options.items() if name not in _GIVEN_AGAIN}
        options |= dict.fromkeys({*_GIVEN_AGAIN, "generator"} & {*self.request.options})
        if self.is_denoised:  # pictures and embeddings have done their part
            options = {name: value for name, value in options.items() if _is_plain(value)}
        request = replace(self.request, generator=None, keeper=None, options=MappingProxyType(options))
        return replace(self, request=request)


def read_unfinished(path: str | Path) -> Unfinished:
    """The run that a file was kept of.

    Raises:
        ValueError: the file is none of those, is damaged, or was written by a later version.
        OSError: there is no such file, or it can't be read.
    """
    found = written.read(Path(path))
    if not isinstance(found, Unfinished):
        raise ValueError(f"{path} is no file of an unfinished video.")
    if found.format > FORMAT:
        raise ValueError(f"{path} was written by filmstrip {found.versions.get('filmstrip')}; use that version.")
    return found


class Keeper:
    """Follows one run and keeps what is done of it.

    Args:
        path: the file; None keeps nothing, for a run that only goes on from something.
        every: after how many steps it is written again; None writes it once, before decoding.
        about: see `Unfinished`.
        begun: what the run goes on from.
    """

    def __init__(
        self,
        path: Path | None,
        every: int | None = None,
        about: Mapping[str, Any] | None = None,
        begun: Unfinished | None = None,
    ) -> None:
        self.path, self.every = path, every
        self.about = dict(about or {})
        self.begun = begun
        self._state: Unfinished | None = None
        self._request: Request | None = None
        self._loops: list[LoopState] = []
        self._earlier = list(begun.loops) if begun is not None else []
        self._count = 0
        self._changes: dict[str, Tensor] = {}
        self.guidance_scale: float | None = None
        """The scale that a callback has set."""

    # ---- what a run tells ----------------------------------------------------------------------------------------

    def begin(self, recipe: Any, request: Request) -> None:
        """A run begins.

        Raises:
            ValueError: its steps are to be kept, and an argument of the call can't be written down.
        """
        self._request = request
        self._state = replace(describe(recipe, request), every=self.every, about=self.about)
        if self.every is not None and self.path is not None:
            self._state.check()

    def finish(self, latents: Tensor, cut_off: tuple[str, ...]) -> Unfinished:
        """All steps are made; what decoding needs is kept, and returned."""
        assert self._state is not None and self._request is not None, "a run begins first"
        noise = NoiseState.of(self._request.generator, self._state.noise.device)
        self._state = replace(self._state, latents=latents, noise=noise, cut_off=cut_off, loops=[])
        if self._request.output_type != "latent":
            self._write()
        return self._state

    def change(self, name: str, value: Tensor) -> None:
        """A callback has replaced a tensor."""
        self._changes[name] = value

    def make_changes_again(self, step: Step) -> float | None:
        """Put what a callback had replaced by the end of a loop's kept steps into one of these steps."""
        kept = self._loops[-1]
        step.tensors.update({name: tensor.to(step.latents.device) for name, tensor in kept.changes.items()})
        step.guidance_scale = kept.guidance_scale
        return kept.guidance_scale

    def tell(self, error: BaseException) -> None:
        """Say in an error how to go on, and let it carry what is finished."""
        how = ""
        if self.is_kept:
            how = f"What is done is kept in {self.path}: `filmstrip decode {self.path}` goes on from there."
        elif self._state is not None and self._state.is_denoised:
            error.unfinished = self._state  # type: ignore[attr-defined]
            how = "The latents are in `error.unfinished`; `pipeline.finish(error.unfinished)` decodes them."
        if how and hasattr(error, "add_note"):  # since Python 3.11
            error.add_note(how)

    @property
    def is_kept(self) -> bool:
        """Whether there is a file to go on from."""
        return self.path is not None and self.path.is_file()

    def remove(self) -> None:
        """Remove the file: the video is whole."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    # ---- what the denoising loop tells ---------------------------------------------------------------------------

    def repeat_loop(self, run: Run, latents: Tensor, timesteps: list[float]) -> Iterator[Step]:
        """Yield the steps of a beginning loop that are kept, after which its solver and its noise are as they were."""
        if not self._earlier:
            self._loops.append(LoopState(0, latents, {}, self._noise()))
            self._changes = {}
            return
        kept = self._earlier.pop(0)
        self._loops.append(kept)
        self._changes, self.guidance_scale = dict(kept.changes), kept.guidance_scale
        self._count += kept.steps
        there = kept.latents.to(latents.device)
        for index in range(kept.steps):
            yield Step(index, len(timesteps), timesteps[index], there, there, is_repeated=True)
        remember(run, kept.memory, latents.device)
        assert self._request is not None, "a run begins first"
        kept.noise.restore(self._request.generator)

    @property
    def kept_steps(self) -> int:
        """Steps of the present loop that were kept."""
        return self._loops[-1].steps

    @property
    def kept_latents(self) -> Tensor:
        """The latents of the present loop that were kept."""
        return self._loops[-1].latents

    def step(self, done: int, total: int, latents: Tensor, run: Run) -> None:
        """So many steps of the present loop are made, and this is what it goes on from."""
        self._count += 1
        if self.every is None or self.path is None:
            return
        is_due = self._count % self.every == 0
        if is_due or done == total:
            self._loops[-1] = LoopState(
                done, latents, memory_of(run), self._noise(), dict(self._changes), self.guidance_scale
            )
        if is_due:
            assert self._state is not None, "a run begins first"
            self._state = replace(self._state, loops=list(self._loops))
            self._write()

    def _noise(self) -> NoiseState:
        assert self._request is not None and self._state is not None, "a run begins first"
        return NoiseState.of(self._request.generator, self._state.noise.device)

    def _write(self) -> None:
        if self.path is None or self._state is None:
            return
        try:
            self._state.save(self.path)
        except OSError as error:
            logger.warning("%s could not be written (%s); the run goes on without it.", self.path, error)


def describe(recipe: Any, request: Request) -> Unfinished:
    """A run that begins now."""
    scheduler = recipe.components.get("scheduler")
    return Unfinished(
        pipeline=type(recipe).__name__,
        model=lasting_name(recipe.name_or_path),
        request=request,
        noise=NoiseState.of(request.generator, recipe._execution_device),
        dtypes={name: dtype_of(network) for name, network in recipe.networks.items()},
        scheduler=settings_of(scheduler),
        coding=coding_settings(recipe.vae),
        quantized=quantized(recipe),
    )


def dtype_of(network: nn.Module) -> torch.dtype:
    """The type that a network computes in."""
    return compute_dtype_of(network) or next(network.parameters()).dtype


def quantized(pipeline: Any) -> dict[str, str]:
    """The networks of a pipeline whose weights are quantised, and how."""
    return {name: report.kind for name, report in pipeline.quantized.items()}


def settings_of(scheduler: Any) -> str:
    """Class and settings of a scheduler, to be compared."""
    if scheduler is None:
        return ""
    return json.dumps([type(scheduler).__name__, dict(scheduler.config)], default=lambda one: type(one).__name__)


def versions() -> dict[str, str]:
    """Those that can change what a seed gives."""
    return {name: version(name) for name in ("filmstrip", "torch", "transformers")}


def changed_versions(before: Mapping[str, str]) -> list[str]:
    """Versions that differ from those a video was made with, as sentences."""
    return [
        f"It was made with {name} {before[name]}, here is {now}: frames may differ."
        for name, now in versions().items()
        if name in before and before[name] != now
    ]


def lasting_name(model: str) -> str:
    """A model's name that means the same in any folder."""
    is_folder = bool(model) and model not in BUILTIN_MODELS and Path(model).is_dir()
    return str(Path(model).absolute()) if is_folder else model


def new_path(folder: Path, name: str) -> Path:
    """A file for a run that begins now."""
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{SUFFIX}"


def _is_plain(value: Any) -> bool:
    """Whether JSON could hold it."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True

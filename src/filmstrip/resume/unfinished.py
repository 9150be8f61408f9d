"""A run that is not done: what finishing it needs beside the networks, as a record that a file holds."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.generation.arguments import facts_of
from filmstrip.generation.request import Request
from filmstrip.memory.coding import coding_settings
from filmstrip.memory.residency import compute_dtype_of
from filmstrip.randomness import NoiseState
from filmstrip.records import record
from filmstrip.registry import BUILTIN_MODELS
from filmstrip.resume import file
from filmstrip.sharing import shared_name
from filmstrip.versions import version_of

SUFFIX = ".latents.safetensors"


@record("loop")
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


@record("unfinished")
@dataclass
class Unfinished:
    """A run that is not done, and all that finishing it needs beside the networks."""

    pipeline: str
    """Name of its class."""
    model: str
    """Name or folder of the checkpoint; empty if the pipeline came from none."""
    request: Request[Any]
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
    revision: str | None = None
    """Of the checkpoint, if that is a repository of the hub."""

    @property
    def is_denoised(self) -> bool:
        """Whether only the decoding is left."""
        return self.latents is not None

    def save(self, path: str | Path, *, may_replace: bool = True) -> Path:
        """Write it to a file, whole or not at all, and return where that is; see `file.write`."""
        return file.write(Path(path), self._to_write(), of=self.pipeline, may_replace=may_replace)

    def check(self) -> None:
        """See that it can be written down.

        Raises:
            ValueError: an argument of the call can't.
        """
        try:
            file.check_writable(self._to_write())
        except file.Unwritable as error:
            raise ValueError(f"the steps of this run can't be kept: {error}") from error

    def _to_write(self) -> Unfinished:
        arguments = self.request.arguments
        dropped = {name for name, fact in facts_of(type(arguments)).items() if not fact.is_data}
        request = replace(self.request, generator=None)
        if self.is_denoised:  # pictures and embeddings have done their part
            dropped |= {name for name in facts_of(type(arguments)) if not file.is_light(getattr(arguments, name))}
            own = {one.name for one in dataclasses.fields(request)} - {one.name for one in dataclasses.fields(Request)}
            nothing: dict[str, Any] = {name: None for name in own if not file.is_light(getattr(request, name))}
            request = replace(request, **nothing)
        return replace(self, request=replace(request, arguments=replace(arguments, **dict.fromkeys(dropped))))


def read_unfinished(path: str | Path) -> Unfinished:
    """The run that a file was kept of.

    Raises:
        ValueError: the file is none of those, is damaged, or was written by a later version.
        OSError: there is no such file, or it can't be read.
    """
    found = file.read(Path(path))
    if not isinstance(found, Unfinished):
        raise ValueError(f"{path} is no file of an unfinished video.")
    return found


def describe(recipe: Any, request: Request[Any]) -> Unfinished:
    """A run that begins now."""
    scheduler = recipe.components.get("scheduler")
    return Unfinished(
        pipeline=type(recipe).__name__,
        model=lasting_name(recipe.name_or_path),
        revision=recipe.revision,
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
    return json.dumps(
        [type(scheduler).__name__, {**scheduler.config.foreign(), **scheduler.config}],
        default=lambda one: type(one).__name__,
    )


def versions() -> dict[str, str]:
    """Those that can change what a seed gives."""
    return {name: version_of(name) for name in ("filmstrip", "torch", "transformers")}


def changed_versions(before: Mapping[str, str]) -> list[str]:
    """Versions that differ from those a video was made with, as sentences."""
    return [
        f"It was made with {name} {before[name]}, here is {now}: frames may differ."
        for name, now in versions().items()
        if name in before and before[name] != now
    ]


def lasting_name(model: str) -> str:
    """A model's name that means the same in any folder, and says nothing of those that the model lies in."""
    is_folder = bool(model) and model not in BUILTIN_MODELS and Path(model).is_dir()
    return shared_name(model) if is_folder else model


def new_path(folder: Path, name: str) -> Path:
    """A file for a run that begins now."""
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{SUFFIX}"

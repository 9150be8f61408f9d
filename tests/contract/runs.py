"""Running a case and comparing what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip.generation.request import Request
from filmstrip.memory.coding import Way
from tests.contract.registered import CASES, SMALL_TOLERANCE, Case

SEED = 7


def over(cases: Iterable[Case]) -> Any:
    """Mark a test to run for each of these cases."""
    chosen = list(cases)
    assert chosen, "a contract that holds for no pipeline class tests nothing"
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])


def over_all(function: Callable[..., Any]) -> Any:
    """Mark a test to run for every case."""
    return over(CASES)(function)


def over_those_with(*arguments: str) -> Any:
    """Mark a test to run for the cases whose call takes these arguments."""
    return over(case for case in CASES if case.takes(*arguments))


def fresh(case: Case) -> Any:
    """A pipeline of a test's own, which it may change."""
    pipeline = case.make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def shared(case_name: str) -> Any:
    """The pipeline of a case, made once: runs change nothing in it."""
    return fresh(next(case for case in CASES if case.name == case_name))


def seeded(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def call(case: Case, pipeline: Any = None, **arguments: Any) -> Any:
    """What the pipeline returns for the case's small call; seeded unless told otherwise, and as a tensor."""
    pipeline = shared(case.name) if pipeline is None else pipeline
    return pipeline(**{"generator": seeded(), "output_type": "pt", **case.call, **arguments})


def frames_of(output: Any) -> Any:
    """The videos that a pipeline gave; pictures as videos of one frame, and latents as they are."""
    if hasattr(output, "frames"):
        return output.frames
    images = output.images
    if isinstance(images, list):
        return [[image] for image in images]
    is_latent = isinstance(images, torch.Tensor) and images.shape[1] != 3
    return images if images is None or is_latent else images[:, None]


def video(case: Case, pipeline: Any = None, **arguments: Any) -> torch.Tensor:
    """The frames of `call`, (batch, frames, 3, height, width), in [0, 1]."""
    frames: torch.Tensor = frames_of(call(case, pipeline, **arguments))
    return frames


def request(case: Case, pipeline: Any = None, **arguments: Any) -> Request:
    """The request that the pipeline makes of the same arguments."""
    pipeline = shared(case.name) if pipeline is None else pipeline
    defaults = {name: parameter.default for name, parameter in case.parameters.items()}
    return pipeline.request(**{**defaults, "generator": seeded(), "output_type": "pt", **case.call, **arguments})


@contextmanager
def set_to(vae: Any, way: Way) -> Iterator[None]:
    """An autoencoder set to a way of decoding, as a user would, and back."""
    before = vae.coding
    vae.coding = way.coding or before
    try:
        yield
    finally:
        vae.coding = before


def differs(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two videos differ by more than rounding."""
    return first.shape != second.shape or bool((first.float() - second.float()).abs().max() > 1e-4)


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    """Assert that two videos agree within the rounding of float32."""
    torch.testing.assert_close(first, second, rtol=SMALL_TOLERANCE, atol=SMALL_TOLERANCE)


def relative_error(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference by that of the reference, both taken as [-1, 1]."""
    difference = (video.double() - reference.double()).norm()
    return float(2 * difference / (2 * reference.double() - 1).norm())


def as_array(frames: Any) -> np.ndarray:
    """Frames of any output type but latents as float, (batch, frames, height, width, 3), in [0, 1]."""
    if isinstance(frames, torch.Tensor):
        return frames.float().movedim(2, -1).numpy()
    if isinstance(frames, list):
        assert all(isinstance(frame, Image.Image) for frames_of_one in frames for frame in frames_of_one)
        frames = np.stack([np.stack([np.asarray(frame) for frame in frames_of_one]) for frames_of_one in frames])
    return frames / 255 if frames.dtype == np.uint8 else frames


def without(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The arguments less those named."""
    return {name: value for name, value in arguments.items() if name not in names}

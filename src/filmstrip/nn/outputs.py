"""What the public calls of networks return: named fields that can also be indexed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from filmstrip.nn.noise import Generators, draw_noise


@dataclass
class Output:
    """Fields that can be read by name, by key and by position, as users of Diffusers expect."""

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of all fields that are set, in their order."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if value is not None)


@dataclass
class SampleOutput(Output):
    """One tensor: a network's prediction, or decoded pixels."""

    sample: Tensor


class DiagonalGaussian:
    """The posterior of a variational autoencoder (arXiv:1312.6114): one mean and variance for each latent value.

    Args:
        moments: (batch, 2 * channels, ...), the means and then the logarithms of the variances.
    """

    def __init__(self, moments: Tensor) -> None:
        self.mean, log_variance = moments.chunk(2, dim=1)
        self.logvar = log_variance.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each value."""
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variance of each value."""
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        """The most likely latents."""
        return self.mean

    def sample(self, generator: Generators = None) -> Tensor:
        """Latents drawn at random."""
        return self.mean + self.std * draw_noise(self.mean.shape, generator, self.mean.device, self.mean.dtype)


@dataclass
class EncoderOutput(Output):
    """The posterior that an autoencoder's encoder found."""

    latent_dist: DiagonalGaussian

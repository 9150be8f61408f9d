"""What the public calls of networks return: named fields that can also be indexed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise


@dataclass
class Output(dict[str, Any]):
    """Fields that can be read by name, by key and by position, as users of Diffusers expect.

    As a dictionary and as a tuple it holds the fields that are not None.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                super().__setitem__(field.name, getattr(self, field.name))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self:
            super().__setitem__(name, value)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __getitem__(self, key: int | slice | str) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of all fields that are set, in their order."""
        return tuple(self.values())


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

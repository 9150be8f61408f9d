"""What autoencoders have in common, whatever their networks: a posterior of latents, and ways to divide their work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.memory.coding import CodesInPortions, Coding, Way, tile_way
from filmstrip.network import Model
from filmstrip.outputs import DiagonalGaussian, EncoderOutput, SampleOutput
from filmstrip.randomness import Generators


class Autoencoder(CodesInPortions, Model):
    """Compresses videos or pictures to latents and back; a family says how a portion of a batch is coded."""

    _supports_gradient_checkpointing = True

    def encode(
        self, x: Tensor, return_dict: bool = True, coding: Coding | None = None
    ) -> EncoderOutput | tuple[DiagonalGaussian]:
        """The posterior of the latents."""
        coding = coding or self.coding
        moments = [self._encode(part, coding) for part in self._slices(x, coding)]
        posterior = DiagonalGaussian(torch.cat(moments))
        return EncoderOutput(posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, *arguments: Any, **settings: Any) -> Any:
        """The videos or pictures that latents stand for."""
        raise NotImplementedError

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: Generators = None,
    ) -> SampleOutput | tuple[Tensor]:
        """Encode and decode again."""
        return self.decode(self._latents(sample, sample_posterior, generator), return_dict)

    def _latents(self, sample: Tensor, sample_posterior: bool, generator: Generators) -> Tensor:
        posterior = self.encode(sample)[0]
        return posterior.sample(generator) if sample_posterior else posterior.mode()

    def _slices(self, batch: Tensor, coding: Coding) -> Sequence[Tensor]:
        return batch.split(1) if coding.is_sliced else (batch,)

    def _encode(self, part: Tensor, coding: Coding) -> Tensor:
        """The moments of a portion of the batch."""
        raise NotImplementedError

    def _tile_ways(self, sides: tuple[int, int], shares: Sequence[int]) -> Iterator[Way]:
        """In tiles of such shares of the sides that a model was made for; a quarter of each overlaps the next."""
        ratio = self.spatial_compression_ratio
        for share in shares:
            rows, columns = (max(side // share // ratio, 4) for side in sides)
            tile, steps = (rows * ratio, columns * ratio), (int(0.75 * rows) * ratio, int(0.75 * columns) * ratio)
            coding = replace(self.coding, is_tiled=True, is_sliced=True, tile=tile, latent_tile=(rows, columns))
            yield tile_way(tile, steps, coding.with_overlap((0.25, 0.25)))


class Level(nn.Module):
    """Residual blocks at one resolution, then perhaps half the resolution, or twice."""

    def __init__(
        self,
        resnets: Iterable[nn.Module],
        downsampler: nn.Module | None = None,
        upsampler: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.downsamplers = None if downsampler is None else nn.ModuleList([downsampler])
        self.upsamplers = None if upsampler is None else nn.ModuleList([upsampler])

    @property
    def samplers(self) -> list[nn.Module]:
        """What changes the resolution."""
        return [*(self.downsamplers or ()), *(self.upsamplers or ())]

    def layers(self) -> list[nn.Module]:
        """The layers, in their order."""
        return [*self.resnets, *self.samplers]

    def forward(self, hidden_states: Tensor) -> Tensor:
        for layer in self.layers():
            hidden_states = layer(hidden_states)
        return hidden_states


def check_block_types(config: Config, down_block: str, up_block: str) -> None:
    """See that there is one block for each resolution, on the way down and up, of the kinds that this network has."""
    for name, known in (("down_block_types", down_block), ("up_block_types", up_block)):
        if tuple(config[name]) != (known,) * len(config.block_out_channels):
            given = list(config[name])
            raise ValueError(f"{name} must be {known!r}, once for each of block_out_channels, got {given}.")

"""Latents of many clips, encoded once, for the training of the transformer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from filmstrip.generation.packing import normalize_latents
from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.outputs import DiagonalGaussian
from training.shapes import clips

CHUNK_SIZE = 256  # clips


class Examples(NamedTuple):
    """Clips as the transformer sees them."""

    latents: Tensor  # (batch, channels, frames, height, width), normalised
    keyframes: Tensor  # (batch, channels, 1, height, width), one frame of each clip encoded on its own
    places: Tensor  # (batch,), which frame that is
    numbers: Tensor  # (batch,), places of the combinations in clips.COMBINATIONS

    def pick(self, rows: Tensor) -> Examples:
        return Examples(*(column[rows] for column in self))


@torch.no_grad()
def encode(autoencoder: AutoencoderKLLTXVideo, video: Tensor) -> Tensor:
    """Normalised latents of a video in [-1, 1], in float32."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior: DiagonalGaussian = autoencoder.encode(video, return_dict=False)[0]
    return normalize_latents(posterior.mean.float(), autoencoder.latents_mean, autoencoder.latents_std)


def encode_chunk(autoencoder: AutoencoderKLLTXVideo, number: int) -> Examples:
    """The chunk of that number: the number alone decides which clips it holds."""
    rng = random.Random(f"chunk {number}")
    training, _ = clips.split()
    index = {combination: place for place, combination in enumerate(clips.COMBINATIONS)}
    chosen = rng.choices(training, k=CHUNK_SIZE)
    parts: list[tuple[Tensor, Tensor]] = []
    last = clips.NUM_FRAMES - 1
    places = [last if rng.random() < 0.6 else rng.randrange(4, last) for _ in chosen]
    for begin in range(0, CHUNK_SIZE, 16):
        some = slice(begin, begin + 16)
        video = clips.draw(chosen[some], rng)
        frames = torch.stack([one[:, place : place + 1] for one, place in zip(video, places[some], strict=True)])
        parts.append((encode(autoencoder, video), encode(autoencoder, frames)))
    latents, keyframes = (torch.cat(column).bfloat16() for column in zip(*parts, strict=True))
    numbers = torch.tensor([index[combination] for combination in chosen])
    return Examples(latents, keyframes, torch.tensor(places), numbers)


@dataclass
class LatentStore:
    """Chunks of examples, made when first asked for and kept in a folder."""

    folder: Path
    autoencoder: AutoencoderKLLTXVideo
    chunks: list[Examples] = field(default_factory=list)
    hard: list[list[tuple[int, int]]] = field(default_factory=list)

    def grow(self, num_chunks: int) -> None:
        """Have at least so many chunks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while len(self.chunks) < num_chunks:
            path = self.folder / f"{len(self.chunks):04d}.safetensors"
            if not path.exists():
                partial = path.with_suffix(".partial")
                save_file(encode_chunk(self.autoencoder, len(self.chunks))._asdict(), partial)
                partial.replace(path)
            self.chunks.append(Examples(**load_file(path)))

    def draw(self, batch_size: int, rng: random.Random) -> Examples:
        """Random examples of all chunks, a quarter of them squares and stars that spin: those take longest to learn."""
        places = [(rng.randrange(len(self.chunks)), rng.randrange(CHUNK_SIZE)) for _ in range(batch_size)]
        hard = self.hard_places()
        if hard:
            places[: batch_size // 4] = rng.choices(hard, k=batch_size // 4)
        parts = [self.chunks[chunk].pick(torch.tensor([row])) for chunk, row in places]
        return Examples(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def hard_places(self) -> list[tuple[int, int]]:
        """Chunk and row of every square and star that spins."""
        for number in range(len(self.hard), len(self.chunks)):
            shown = [clips.COMBINATIONS[place] for place in self.chunks[number].numbers.tolist()]
            is_hard = [one.motion == "spinning" and one.shape in ("square", "star") for one in shown]
            self.hard.append([(number, row) for row, hard in enumerate(is_hard) if hard])
        return [place for places in self.hard for place in places]

"""What a plan chooses from, in words and with what each choice costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations, product

import torch

from filmstrip.fitting.search import COPY_RATE, Choice, Choices
from filmstrip.memory.coding import Way
from filmstrip.memory.sizes import in_words

CHUNK_TOKENS = 1024
# What choices cost that no copying or computing explains, in the seconds of `Choice.cost`.
HALF_COST, IN_TURN_COST, CHUNKS_COST, SMALLER_COST, SEAMS_COST, DECODING_SECONDS = 5.0, 1.0, 2.0, 0.5, 5.0, 10.0
MAPPED_COST = 3.0
MAPPED = "mapped"
# How much of the copying is waited for: layers have much to do beside it; groups are copied while others compute.
WAITING = {"components": 1.0, "blocks": 1.0, "leaves": 1.5}
STREAMED_WAITING = 0.5


def choices_of_types(kept: Collection[torch.dtype], half: torch.dtype | None) -> Iterator[Choice]:
    """The types of weights: those that networks have, and half of float32 if that may be chosen."""
    names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in kept))
    yield Choice("weights", None, f"{names}, as they are")
    if torch.float32 in kept and half is not None:
        name = str(half).removeprefix("torch.")
        yield Choice("weights", half, name, HALF_COST, "half the memory and quicker; numbers are rounded")


def choices_of_residency_on_cpu(*, lies_in_files: bool) -> Iterator[Choice]:
    """Where weights are while a CPU computes."""
    yield Choice("residency", None, "all weights in memory")
    if lies_in_files:
        price = "those that the system drops are read from their files again"
        yield Choice("residency", MAPPED, "the weights of the network at work", MAPPED_COST, price)


def choices_of_residency(device: str, sizes: Mapping[str, int], calls: Mapping[str, int]) -> Iterator[Choice]:
    """Which weights are on a device when, by the grain of each network.

    Args:
        sizes: bytes of the networks that work.
        calls: how often those are called that denoise.
    """
    yield Choice("residency", None, f"all weights on {device}")
    often = {name: size * max(1, calls.get(name, 1)) for name, size in sizes.items()}
    for in_blocks in (names for count in range(len(sizes)) for names in combinations(sizes, count)):
        copied = sum(often[name] if name in in_blocks else size for name, size in sizes.items())
        said = "one network at a time comes to the device, whole"
        said += f" but {' and '.join(in_blocks)}, block by block" if in_blocks else ""
        yield _moving(dict.fromkeys(sizes, "components") | dict.fromkeys(in_blocks, "blocks"), said, copied)
    for grain, said in (("blocks", "block"), ("leaves", "layer")):
        said = f"one {said} of a network at a time comes to the device"
        yield _moving(dict.fromkeys(sizes, grain), said, sum(often.values()))


def choices_of_denoising(*, may_guide_in_turn: bool, may_chunk: bool) -> Iterator[Choices]:
    """How the steps are gone through."""
    guidances: list[Choices] = [()]
    if may_guide_in_turn:
        price = "two calls of half the size: no slower for large videos"
        guidances.append((Choice("guidance", True, "for the prompt and against it in turn", IN_TURN_COST, price),))
    chunked: list[Choices] = [()]
    if may_chunk:
        said = f"feed-forward layers take {CHUNK_TOKENS} tokens at a time"
        chunked.append((Choice("feed-forward", CHUNK_TOKENS, said, CHUNKS_COST, "a few percent of time"),))
    for guidance, chunks in product(guidances, chunked):
        yield (*guidance, *chunks)


def choices_of_decoding(ways: Iterable[Way], height: int, width: int) -> Iterator[Choices]:
    """As the autoencoder is set, and the ways that need less."""
    yield ()
    for number, way in enumerate(ways, 1):
        work = way.work(height, width) if way.tile else 1.0
        price = f"{work:.2f} times the work of decoding" if way.tile else "little time"
        seams = SEAMS_COST if way.tile else 0.0
        cost = number * SMALLER_COST + seams + DECODING_SECONDS * (work - 1)
        yield (Choice("decoding", way, way.name, cost, price),)


def _moving(grains: dict[str, str], said: str, copied: int) -> Choice:
    """The choice to have networks come to the device in these grains, for so many bytes in all."""
    kinds = set(grains.values())
    waiting = max(WAITING[kind] for kind in kinds)
    if kinds == {"blocks"}:
        waiting = STREAMED_WAITING
    seconds = waiting * copied / COPY_RATE
    price = f"copies {in_words(copied)}, about {seconds:.2g} s of waiting"
    return Choice("residency", grains, said, 1.0 + waiting + seconds, price)

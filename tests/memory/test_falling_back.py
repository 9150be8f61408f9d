"""Decoding that runs out of memory goes on in smaller parts, and at last on the CPU."""

import copy
import logging

import pytest
import torch
from torch import nn

from filmstrip.devices import is_out_of_memory
from filmstrip.memory import falling_back
from filmstrip.memory.coding import Coding, Way, tile_way
from filmstrip.memory.falling_back import decoded, on_cpu

FRAMES = torch.arange(24.0).reshape(1, 1, 6, 2, 2)


class Autoencoder(nn.Module):
    """One that decodes in runs of `at_once` frames, and needs memory for each of a run's pixels."""

    def __init__(self, limit):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.coding, self.limit = Coding(frames_at_once=6), limit
        self.made = []

    def decoding_ways(self):
        for at_once in (6, 4, 1):
            yield Way(f"in runs of {at_once}", Coding(frames_at_once=at_once))
        yield tile_way((1, 1), (1, 1), Coding(frames_at_once=1, is_tiled=True))

    def decode(self, coding):
        done, coding = 0, coding or self.coding
        for frames in FRAMES.split(coding.frames_at_once, dim=2):
            limit = self.limit.get(done, 100) if isinstance(self.limit, dict) else self.limit
            if frames.numel() // (4 if coding.is_tiled else 1) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            self.made.append(frames.shape[2])
            done += frames.shape[2]
            yield frames * self.weight


def run(vae, size=(2, 2)):
    return list(decoded(Autoencoder.decode, vae, size))


@pytest.mark.parametrize(
    ("limit", "runs", "said"),
    [
        (100, [6], []),
        (16, [4, 2], ["in runs of 4"]),
        (4, [1] * 6, ["in runs of 4", "in runs of 1"]),
        (1, [1] * 6, ["in runs of 4", "in runs of 1", "in tiles of 1x1"]),
    ],
)
def test_each_way_is_tried_in_turn_and_said(limit, runs, said, caplog):
    vae = Autoencoder(limit)
    with caplog.at_level(logging.WARNING):
        frames = run(vae)
    assert torch.equal(torch.cat(frames, dim=2), FRAMES)
    assert vae.made == runs
    assert [record.getMessage() for record in caplog.records] == [
        f"Decoding ran out of memory and continues {name}." for name in said
    ]
    assert vae.coding == Coding(frames_at_once=6), "the settings are as they were"


def test_frames_that_were_handed_out_are_not_handed_out_again():
    vae = Autoencoder({0: 100, 4: 4})  # memory fails after the first run
    vae.coding = Coding(frames_at_once=4)
    frames = run(vae)
    assert [one.shape[2] for one in frames] == [4, 1, 1]
    assert torch.equal(torch.cat(frames, dim=2), FRAMES)


def test_others_see_the_settings_unchanged_while_a_run_of_frames_is_made():
    vae, seen = Autoencoder(16), []

    def decode(vae, coding):
        for frames in vae.decode(coding):
            seen.append(vae.coding.frames_at_once)
            yield frames

    assert len(list(decoded(decode, vae, (2, 2)))) == len(seen) == 2
    assert set(seen) == {6}


def test_the_last_error_and_all_other_errors_are_raised(caplog):
    with pytest.raises(torch.OutOfMemoryError):
        run(Autoencoder(0))
    vae = Autoencoder(100)
    caplog.clear()

    def broken(*_):
        yield FRAMES[:, :, :1]
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        list(decoded(broken, vae, (2, 2)))
    assert not caplog.records


def test_off_the_cpu_the_cpu_is_the_last_way(monkeypatch, caplog):
    vae, copies = Autoencoder(0), []

    def copied(network):
        copies.append(copy.deepcopy(network))
        copies[-1].limit = 100
        return copies[-1]

    monkeypatch.setattr(falling_back, "execution_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(falling_back, "on_cpu", copied)
    assert torch.equal(torch.cat(run(vae), dim=2), FRAMES)
    assert len(copies) == 1 and caplog.records[-1].getMessage().endswith("continues on the CPU.")


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)], ids=str
)
def test_the_copy_on_the_cpu_is_of_the_same_weights(dtype, expected):
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).to(dtype)
    network[1].weight = network[0].bias  # tied
    other = on_cpu(network)
    assert other[0].weight.dtype == expected and other[1].num_batches_tracked.dtype == torch.int64
    assert other[1].weight is other[0].bias
    assert other[0].weight is not network[0].weight
    torch.testing.assert_close(other[0].weight.float(), network[0].weight.float())


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_memory):
    assert is_out_of_memory(error) == is_memory


def test_the_allocator_itself_says_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)

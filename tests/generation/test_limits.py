"""Numbers that no machine can do anything with are refused before anything is begun."""

from dataclasses import dataclass

import pytest

from filmstrip import DDIMScheduler
from filmstrip.checks import check_whole_number
from filmstrip.generation.arguments import Prompted, argument, check_ranges
from filmstrip.generation.resolve import Rules, check_held, resolve
from filmstrip.memory.coding import Coding

RULES = Rules("A", 8, "VAE 8", spatial_ratio=8, temporal_ratio=1, frame_stride=1, frame_offsets=(0,))
USUAL = {"height": 64, "width": 64, "num_frames": 8, "frame_rate": 8.0}


@pytest.mark.parametrize("name", ["height", "width", "num_frames"])
def test_a_size_beyond_all_reason_is_named(name):
    with pytest.raises(ValueError, match=f"{name} can be 100,000 at most, got 1000000000"):
        resolve(RULES, **USUAL | {name: 10**9})
    assert check_whole_number("steps", 100_000) == 100_000


def test_what_could_never_be_held_says_how_much_it_would_take(monkeypatch):
    monkeypatch.setattr("filmstrip.generation.resolve.physical_memory", lambda: 8 * 10**9)
    with pytest.raises(ValueError, match=r"100000 frames of 8000x8000 take at least 1,600 GB .* this machine has 8 GB"):
        resolve(RULES, **USUAL | {"num_frames": 100_000, "height": 8000, "width": 8000})
    size = resolve(RULES, **USUAL)
    with pytest.raises(ValueError, match="1000000 x 8 frames of 64x64 take at least 8 GB"):
        check_held(size, 1_000_000)
    monkeypatch.setattr("filmstrip.generation.resolve.physical_memory", lambda: None)
    check_held(size, 1_000_000)


@pytest.mark.parametrize(("value", "reason"), [(10**18, "100,000 at most"), (9000, "8,192 at most"), (0, "at least 1")])
def test_the_tokens_of_a_prompt_have_a_limit(value, reason):
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Long(Prompted):
        max_length: int = argument("tokens that count.", 8, range="tokens")

    check_ranges(Long(max_length=8192))
    with pytest.raises(ValueError, match=f"max_length .*{reason}"):
        check_ranges(Long(max_length=value))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tile": (0, 8)}, "tile of an autoencoder's work must be a whole number of at least 1, got 0"),
        ({"tile": (10**9, 8)}, "tile .* can be 100,000 at most"),
        ({"stride": (0, 8)}, "tiles must lie more than 0 pixels apart, got 0"),
        ({"frames_at_once": -1}, "frames_at_once .* at least 1, got -1"),
    ],
)
def test_tiles_that_would_never_end_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        Coding(**settings)


def test_an_offset_that_leads_past_the_training_is_named():
    scheduler = DDIMScheduler(steps_offset=1)
    assert scheduler.start(999).timesteps[0] == 999
    with pytest.raises(ValueError, match=r"1000 steps with steps_offset=1 begin at timestep 1000, .* up to 999"):
        scheduler.start(1000)

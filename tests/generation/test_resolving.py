"""What is asked for, and what will be made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.generation.resolving import Rules, resolve

RULES = Rules(
    title="Example",
    size_multiple=32,
    size_reason="VAE 16 x patch 2",
    spatial_ratio=16,
    frame_stride=8,
)
rules = st.builds(
    Rules,
    title=st.just("Example"),
    size_multiple=st.sampled_from([8, 16, 32]),
    size_reason=st.just("VAE 8"),
    spatial_ratio=st.just(8),
    frame_stride=st.integers(1, 12),
    frame_offset=st.integers(0, 3),
)
counts = st.integers(1, 500)


@given(rules, counts, counts, counts, st.floats(0.5, 120))
def test_exactly_what_was_asked_for_is_made_and_no_more_than_a_stride_is_cut(rules, rows, columns, frames, rate):
    height, width = rows * rules.size_multiple, columns * rules.size_multiple
    made = resolve(rules, height=height, width=width, num_frames=frames, frame_rate=rate)
    assert (made.height, made.width, made.num_frames, made.frame_rate) == (height, width, frames, rate)
    assert (made.generated_frames - rules.frame_offset) % rules.frame_stride == 0
    least = max(frames, rules.frame_offset)
    assert least <= made.generated_frames < least + rules.frame_stride
    assert bool(made.adjustments) == (made.generated_frames != frames)


@given(rules, counts, counts, counts)
def test_latents_cover_the_video(rules, rows, columns, frames):
    height, width = rows * rules.size_multiple, columns * rules.size_multiple
    made = resolve(rules, height=height, width=width, num_frames=frames, frame_rate=25)
    latent_frames, latent_height, latent_width = made.latent_size
    assert (latent_height * rules.spatial_ratio, latent_width * rules.spatial_ratio) == (height, width)
    assert (latent_frames - 1) * rules.frame_stride + rules.frame_offset == made.generated_frames
    assert made.num_tokens == latent_frames * latent_height * latent_width
    assert made.seconds == frames / 25


@given(st.integers(1, 3000).filter(lambda value: value % 32))
def test_a_size_that_can_not_be_made_names_the_nearest_that_can(value):
    with pytest.raises(ValueError) as caught:
        resolve(RULES, height=64, width=value, num_frames=9, frame_rate=25)
    lower = value // 32 * 32
    nearest = f"{lower} or {lower + 32}" if lower else "32"
    assert str(caught.value) == (
        f"width must be a multiple of 32 for Example (VAE 16 x patch 2), got {value}; use {nearest}."
    )


@pytest.mark.parametrize(
    ("frames", "generated"), [(1, 1), (2, 9), (9, 9), (10, 17), (160, 161), (161, 161), (162, 169)]
)
def test_frames_are_rounded_up_and_the_rest_is_cut_off(frames, generated):
    made = resolve(RULES, height=64, width=64, num_frames=frames, frame_rate=25)
    assert made.generated_frames == generated
    if frames != generated:
        cut = generated - frames
        assert made.adjustments == (f"Example makes 8k + 1 frames: {generated} are generated, the last {cut} cut off.",)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("height", "width", "num_frames") for value in (0, -32, 32.0, "32", True, None)]
    + [("frame_rate", 0), ("frame_rate", -1), ("frame_rate", float("nan"))],
)
def test_numbers_that_make_no_sense_are_refused_by_name(name, value):
    size = {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 25, name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        resolve(RULES, **size)


def test_resolving_the_result_again_changes_nothing_but_the_frames_to_cut():
    first = resolve(RULES, height=64, width=96, num_frames=10, frame_rate=25)
    again = resolve(RULES, height=64, width=96, num_frames=first.generated_frames, frame_rate=25)
    assert again.generated_frames == first.generated_frames and again.latent_size == first.latent_size
    assert again.adjustments == ()

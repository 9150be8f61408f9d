"""What is asked for, and what will be made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.generation.resolve import Rules, resolve

RULES = Rules(
    title="Example",
    size_multiple=32,
    size_reason="VAE 16 x patch 2",
    spatial_ratio=16,
    temporal_ratio=8,
    frame_stride=8,
)
TWO_COUNTS = Rules(
    title="Example",
    size_multiple=16,
    size_reason="VAE 8 x patch 2",
    spatial_ratio=8,
    temporal_ratio=4,
    frame_stride=8,
    frame_offsets=(0, 1),
    latent_multiple=2,
)


@st.composite
def rules(draw):
    ratio = draw(st.integers(1, 8))
    stride = ratio * draw(st.integers(1, 3))
    return Rules(
        title="Example",
        size_multiple=draw(st.sampled_from([8, 16, 32])),
        size_reason="VAE 8",
        spatial_ratio=8,
        temporal_ratio=ratio,
        frame_stride=stride,
        frame_offsets=tuple(sorted(draw(st.sets(st.integers(0, stride - 1), min_size=1)))),
        latent_multiple=draw(st.integers(1, 3)),
        latents_per_token=draw(st.integers(1, 8)),
    )


counts = st.integers(1, 500)


@given(rules(), counts, counts, counts, st.floats(0.5, 120))
def test_exactly_what_was_asked_for_is_made_and_no_more_than_a_stride_is_cut(rules, rows, columns, frames, rate):
    height, width = rows * rules.size_multiple, columns * rules.size_multiple
    made = resolve(rules, height=height, width=width, num_frames=frames, frame_rate=rate)
    assert (made.height, made.width, made.num_frames, made.frame_rate) == (height, width, frames, rate)
    legal = [count for count in range(600) if count % rules.frame_stride in rules.frame_offsets]
    assert made.generated_frames == next(count for count in legal if count >= frames)
    assert bool(made.adjustments) == (made.generated_frames != frames)


@given(rules(), counts, counts, counts)
def test_latents_cover_the_video(rules, rows, columns, frames):
    height, width = rows * rules.size_multiple, columns * rules.size_multiple
    made = resolve(rules, height=height, width=width, num_frames=frames, frame_rate=25)
    latent_frames, latent_height, latent_width = made.latent_size
    assert (latent_height * rules.spatial_ratio, latent_width * rules.spatial_ratio) == (height, width)
    own_frames = latent_frames - made.spare_latents
    assert (own_frames - 1) * rules.temporal_ratio < made.generated_frames <= own_frames * rules.temporal_ratio
    assert latent_frames % rules.latent_multiple == 0 and 0 <= made.spare_latents < rules.latent_multiple
    assert made.num_tokens == latent_frames * latent_height * latent_width // rules.latents_per_token
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
    ("frames", "generated", "latent_frames", "spare"),
    [(1, 1, 2, 1), (2, 8, 2, 0), (8, 8, 2, 0), (9, 9, 4, 1), (10, 16, 4, 0), (81, 81, 22, 1), (85, 88, 22, 0)],
)
def test_a_model_may_have_two_kinds_of_counts_and_latents_in_pairs(frames, generated, latent_frames, spare):
    made = resolve(TWO_COUNTS, height=64, width=64, num_frames=frames, frame_rate=8)
    assert (made.generated_frames, made.latent_size[0], made.spare_latents) == (generated, latent_frames, spare)
    assert all("makes 8k or 8k + 1 frames" in sentence for sentence in made.adjustments)


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

"""A network run chunk by chunk gives what it gives at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.nn.causal_conv import CausalConv3d, depth_to_space, repeat_ends, space_to_depth
from filmstrip.nn.streaming import FrameStream, run_stages


def clip(frames, channels=2):
    return torch.randn(1, channels, frames, 3, 4, generator=torch.Generator().manual_seed(frames))


def convolution(is_causal, stride=1, kernel_size=3):
    torch.manual_seed(0)
    return CausalConv3d(2, 2, kernel_size, stride, is_causal)


chunks_of_frames = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(chunks_of_frames, st.booleans(), st.sampled_from([1, (2, 1, 1), (2, 2, 2)]), st.integers(1, 4))
def test_convolutions_on_chunks_equal_the_whole(lengths, is_causal, stride, max_frames):
    stages = [convolution(is_causal), convolution(is_causal, stride), convolution(is_causal)]
    video = clip(sum(lengths))
    with torch.no_grad():
        whole = video
        for stage in stages:
            whole = stage(whole)
        joined = torch.cat(list(run_stages(stages, video.split(lengths, dim=2), max_frames)), dim=2)
    torch.testing.assert_close(joined, whole, rtol=1e-5, atol=1e-6)


def test_a_causal_convolution_does_not_see_the_future():
    video, changed = clip(6), clip(6)
    changed[:, :, 4:] += 1
    with torch.no_grad():
        before, after = (convolution(True)(one)[:, :, :4] for one in (video, changed))
        assert torch.equal(before, after)
        before, after = (convolution(False)(one)[:, :, :4] for one in (video, changed))
        assert torch.equal(before[:, :, :3], after[:, :, :3]) and not torch.equal(before, after)


def test_a_still_video_stays_still_because_its_ends_are_repeated():
    frame = torch.randn(1, 2, 1, 3, 4)
    for is_causal in (True, False):
        with torch.no_grad():
            frames = convolution(is_causal)(frame.expand(-1, -1, 5, -1, -1))
        torch.testing.assert_close(frames, frames[:, :, :1].expand_as(frames))


def test_ends_are_repeated():
    padded = repeat_ends(torch.arange(3.0).view(1, 1, 3, 1, 1), before=2, after=1)
    assert padded.flatten().tolist() == [0, 0, 0, 1, 2, 2]


def test_no_stage_sees_more_frames_than_allowed_and_stages_take_turns():
    seen = []

    def stage(name):
        def run(hidden_states, stream):
            seen.append((name, hidden_states.shape[2], stream.is_last))
            return hidden_states

        return run

    list(run_stages([stage("a"), stage("b")], [clip(5)], max_frames=2))
    assert [entry[1:] for entry in seen if entry[0] == "a"] == [(2, False), (2, False), (1, True)]
    assert [entry[1:] for entry in seen if entry[0] == "b"] == [(2, False), (2, False), (1, True)]
    assert [name for name, *_ in seen] != sorted(name for name, *_ in seen)


def test_empty_chunks_are_left_out():
    def hold_back(hidden_states, stream):
        kept = stream.resume("all", hidden_states)
        stream.keep("all", kept)
        return kept if stream.is_last else kept[:, :, :0]

    (only,) = run_stages([hold_back], clip(6).split(2, dim=2), max_frames=2)
    assert torch.equal(only, clip(6))


def test_a_stream_hands_out_frames_in_the_order_they_came():
    stream = FrameStream()
    assert not stream.started("x")
    assert stream.take("x", clip(5)[:, :, :3], 1).shape[2] == 1
    assert stream.started("x") and not stream.started("y")
    assert torch.equal(stream.take("x", clip(5)[:, :, 3:], 4), clip(5)[:, :, 1:])


def test_what_a_stream_keeps_is_its_own():
    stream, frames = FrameStream(), clip(2)
    stream.keep("x", frames)
    frames.zero_()
    assert torch.equal(stream.resume("x", frames[:, :, :0]), clip(2))


def test_a_stream_makes_a_thing_once():
    stream, made = FrameStream(), []
    for _ in range(3):
        assert stream.once("noise", lambda: made.append(1) or 7) == 7
    assert made == [1]


@given(st.tuples(*[st.integers(1, 3)] * 3))
def test_depth_to_space_is_the_inverse_of_space_to_depth(size):
    frames, rows, columns = size
    video = torch.arange(2 * 2 * frames * 2 * rows * 2 * columns * 2).view(2, 2, 2 * frames, 2 * rows, 2 * columns)
    folded = space_to_depth(video, size)
    assert folded.shape == (2, 2 * frames * rows * columns, 2, 2, 2)
    assert torch.equal(depth_to_space(folded, size), video)


@pytest.mark.parametrize("size", [(2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_neighbours_become_channels(size):
    video = torch.arange(8.0).view(1, 1, 2, 2, 2)
    axis = size.index(2) + 2
    folded = space_to_depth(video, size)
    assert torch.equal(folded[:, :1], video.narrow(axis, 0, 1))
    assert torch.equal(folded[:, 1:], video.narrow(axis, 1, 1))

"""Noise that the frames of a video have in common (VideoFusion, arXiv:2303.08320)."""

import pytest
import torch

from filmstrip.randomness import draw_noise, draw_video_noise

SHAPE = (2, 4, 5, 40, 50)  # videos, channels, frames, height, width


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def covariances(noise):
    """Of the frames of each video, (videos, frames, frames), over all that lies in a frame."""
    frames = noise.movedim(2, 1).flatten(2).double()
    return frames @ frames.mT / frames.shape[2]


def test_without_a_share_it_is_the_noise_of_every_run():
    generators = seeded(), seeded()
    noise = draw_video_noise(SHAPE, 0.0, 2, generators[0])
    assert torch.equal(noise, draw_noise(SHAPE, generators[1]))
    assert torch.equal(generators[0].get_state(), generators[1].get_state()), "no more is drawn, either"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_frames_have_unit_variance_and_the_share_as_their_covariance(share):
    noise = draw_video_noise(SHAPE, share, 2, seeded(1))
    expected = torch.full((5, 5), share).fill_diagonal_(1.0).double()
    # Of 8000 numbers, a covariance deviates by about 0.011, and by less than five times that.
    assert float((covariances(noise) - expected).abs().max()) < 0.055
    between = (noise[0] * noise[1]).mean()
    assert abs(float(between)) < 0.02, "videos have nothing in common"
    assert abs(float(noise.mean())) < 0.03


def test_a_whole_share_leaves_one_frame():
    noise = draw_video_noise(SHAPE, 1.0, 2, seeded())
    assert torch.equal(noise, noise[:, :, :1].expand_as(noise)) and abs(float(noise.var()) - 1) < 0.03


def test_the_residual_is_what_would_be_drawn_anyway():
    residual = draw_noise(SHAPE, seeded(3))
    noise = draw_video_noise(SHAPE, 0.3, 2, seeded(3))
    base = (noise - 0.7**0.5 * residual) / 0.3**0.5
    torch.testing.assert_close(base, base[:, :, :1].expand_as(base), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frame_dim", [1, 2])
def test_a_batch_equals_a_loop(frame_dim):
    together = draw_video_noise(SHAPE, 0.4, frame_dim, [seeded(1), seeded(2)])
    alone = [draw_video_noise((1, *SHAPE[1:]), 0.4, frame_dim, seeded(seed)) for seed in (1, 2)]
    assert torch.equal(together, torch.cat(alone))


def test_the_global_stream_serves_where_there_is_no_generator():
    torch.manual_seed(5)
    first = draw_video_noise(SHAPE, 0.5, 2)
    torch.manual_seed(5)
    assert torch.equal(draw_video_noise(SHAPE, 0.5, 2), first)

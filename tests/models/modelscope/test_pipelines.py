"""What ModelScope and zeroscope do of their own: presets, clips as they are, noise of each video."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import filmstrip
from filmstrip.models.modelscope.pipeline_video import clip_size
from filmstrip.randomness import draw_noise
from tests.media.clips import moving_square
from tests.tiny_modelscope import parts

CALL = {"prompt": "a star", "height": 16, "width": 12, "num_frames": 6, "num_inference_steps": 3, "output_type": "pt"}


def small_clip(seed, num_frames=6):
    return [Image.fromarray(frame).resize((12, 16)) for frame in moving_square(num_frames + seed, 16, 12)[seed:]]


def normal(*shape):
    return torch.randn(shape, generator=seeded(0))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def changing():
    pipeline = filmstrip.VideoToVideoSDPipeline(**parts())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("name", "size"),
    [("zeroscope_v2_576w", (320, 576, 24)), ("zeroscope_v2_XL", (576, 1024, 24)), ("mine", (16, 16, 16))],
)
def test_zeroscope_makes_what_it_was_made_for(name, size, tmp_path):
    filmstrip.TextToVideoSDPipeline(**parts()).save_pretrained(tmp_path / name)
    request = filmstrip.TextToVideoSDPipeline.outline(tmp_path / name).request(prompt="a cat")
    assert (request.size.height, request.size.width, request.size.num_frames) == size
    asked = filmstrip.TextToVideoSDPipeline.outline(tmp_path / name).request(prompt="a cat", height=32, num_frames=3)
    assert (asked.size.height, asked.size.num_frames) == (32, 3)
    assert request.size.frame_rate == 8


def test_a_clip_keeps_its_size_unless_the_checkpoint_was_made_for_one(changing, tmp_path):
    def size(pipeline, **given):
        made = pipeline.request(**{"prompt": "a cat", "video": small_clip(0), **given}).size
        return made.height, made.width, made.num_frames

    assert size(changing) == (16, 12, 6)
    assert size(changing, height=8) == (8, 12, 6)
    filmstrip.TextToVideoSDPipeline(**parts()).save_pretrained(tmp_path / "zeroscope_v2_XL")
    assert size(filmstrip.VideoToVideoSDPipeline.outline(tmp_path / "zeroscope_v2_XL")) == (576, 1024, 6)


def test_sides_that_the_model_can_not_make_are_rounded_down_and_told(changing):
    clip = [frame.resize((13, 17)) for frame in small_clip(0)]
    size = changing.request(prompt="a cat", video=clip).size
    assert (size.height, size.width) == (16, 12)
    assert size.adjustments == ("The clip is 13x17 and the video 12x16: its sides are multiples of 2.",)


def test_latents_of_a_clip_decide_the_size(changing):
    latents = normal(1, 5, 4, 8, 6)
    size = changing.request(prompt="a cat", video=latents).size
    assert (size.height, size.width, size.num_frames, size.adjustments) == (16, 12, 5, ())
    assert changing.request(prompt="a cat", video=latents[0]).size == size
    told = changing.request(prompt="a cat", video=latents, height=32).size
    assert told.adjustments == ("The video is as large as the latents of the clip, 12x16.",)


@pytest.mark.parametrize("nested", [lambda c: c, lambda c: [c, c], lambda c: c[0]])
def test_the_size_of_a_clip_is_found_in_every_form(nested):
    clip = small_clip(0)
    arrays = torch.zeros(6, 3, 16, 12)
    assert clip_size(nested(clip)) == clip_size(nested([*arrays])) == (16, 12)
    assert clip_size(arrays) == clip_size(arrays[None]) == clip_size([arrays, arrays]) == (16, 12)
    assert clip_size(arrays.movedim(1, -1).numpy()) == (16, 12)


def test_latents_are_the_noise_that_is_put_on_the_clip(changing):
    given = {"prompt": "a cat", "video": small_clip(0), "num_inference_steps": 3, "output_type": "pt"}
    drawn = changing(**given, generator=seeded(3)).frames
    generator = seeded(3)
    draw_noise((1, 6, 4, 8, 6), generator)  # of the clip's latents
    noise = draw_noise((1, 6, 4, 8, 6), generator).transpose(1, 2)
    assert torch.equal(changing(**given, generator=seeded(3), latents=noise).frames, drawn)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDPMScheduler"])
def test_noise_of_solvers_comes_from_each_videos_generator(scheduler):
    pipeline = filmstrip.TextToVideoSDPipeline(**parts(scheduler))
    pipeline.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    together = pipeline(**CALL, num_videos_per_prompt=2, generator=[seeded(1), seeded(2)]).frames
    alone = [pipeline(**CALL, generator=seeded(seed)).frames for seed in (1, 2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=3e-5, atol=3e-5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_another_task_is_refused():
    pipeline = filmstrip.TextToVideoSDPipeline(**parts(in_channels=8))
    with pytest.raises(ValueError, match="made for another task: its U-Net takes 8 channels"):
        pipeline.request(prompt="a cat")


def test_frames_come_a_few_at_a_time_and_whole(changing, monkeypatch):
    """Where an autoencoder decodes pictures of two videos three at a time, each run has both videos' frames."""
    monkeypatch.setattr("filmstrip.models.stable_diffusion.autoencoder._pictures_at_once", lambda *_: 3)
    call = {"prompt": ["a cat", "a dog"], "video": [small_clip(0), small_clip(1)], "num_inference_steps": 2}
    runs = [event.frames.shape for event in changing.stream(**call, generator=seeded(0)) if event.stage == "decode"]
    assert [(one[0], one[2]) for one in runs] == [(2, 1), (2, 2), (2, 1), (2, 2)]

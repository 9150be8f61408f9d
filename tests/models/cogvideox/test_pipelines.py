"""What the pipelines of CogVideoX know without weights."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import filmstrip
from filmstrip.models.cogvideox.common import dynamic_guidance
from tests import tiny

PUBLISHED = Path(__file__).resolve().parent / "manifests"


@pytest.mark.parametrize(
    ("checkpoint", "size", "num_frames", "frame_rate"),
    [
        ("cogvideox-2b", (480, 720), 49, 8),
        ("cogvideox-5b", (480, 720), 49, 8),
        ("cogvideox-5b-i2v", (480, 720), 49, 8),
        ("cogvideox1.5-5b", (768, 1360), 81, 16),
        ("cogvideox1.5-5b-i2v", (768, 1360), 81, 16),
    ],
)
def test_published_checkpoints_make_by_default_what_their_authors_say(checkpoint, size, num_frames, frame_rate):
    pipeline = filmstrip.Pipeline.outline(PUBLISHED / checkpoint)
    image = {"image": Image.new("RGB", (72, 48))} if "i2v" in checkpoint else {}
    made = pipeline.request(prompt="a boat", **image).size
    assert (made.height, made.width) == size
    assert (made.num_frames, made.generated_frames, made.frame_rate) == (num_frames, num_frames, frame_rate)
    assert made.adjustments == ()
    latents = {49: (13, 60, 90), 81: (22, 96, 170)}[num_frames]
    assert made.latent_size == latents
    assert made.num_tokens == math.prod(latents) // (8 if num_frames == 81 else 4)
    assert made.spare_latents == (1 if num_frames == 81 else 0)


def test_dynamic_guidance_rises_with_the_steps_done():
    timesteps = [999, 749, 499, 249]
    scale_at = dynamic_guidance(True, timesteps)
    progress = np.arange(4) / 4
    expected = 1 + 6 * (1 - np.cos(np.pi * progress**5)) / 2
    np.testing.assert_allclose([scale_at(6.0, timestep) for timestep in timesteps], expected)
    assert scale_at(6.0, 600) == scale_at(6.0, 749), "a further call within a step"
    assert dynamic_guidance(False, timesteps) is None
    by_timestep = dynamic_guidance("timestep", timesteps)
    assert by_timestep(6.0, 499) == pytest.approx(1 + 3 * (1 - math.cos(math.pi * ((4 - 499) / 4) ** 5)))


def outline(name, **settings):
    """A pipeline of tiny networks; nothing is run."""
    return getattr(filmstrip, name)(
        tokenizer=tiny.tokenizer(),
        text_encoder=None,
        vae=filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        transformer=filmstrip.CogVideoXTransformer3DModel(**{**tiny.COGVIDEOX_TRANSFORMER, **settings}),
        scheduler=filmstrip.CogVideoXDDIMScheduler(),
    )


def test_a_checkpoint_for_another_task_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="made for another task: it takes 8 channels where this pipeline gives 4"):
        outline("CogVideoXPipeline", in_channels=8).request(prompt="a boat")
    with pytest.raises(ValueError, match=r"takes 4 channels where this pipeline gives 8 \(latents and a picture\)"):
        outline("CogVideoXImageToVideoPipeline").request(prompt="a boat", image=Image.new("RGB", (48, 32)))


def test_learned_positions_hold_for_one_size_only():
    settings = {"in_channels": 8, "use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True}
    pipeline = outline("CogVideoXImageToVideoPipeline", **settings)
    picture = Image.new("RGB", (48, 32))
    assert pipeline.request(prompt="a boat", image=picture, num_frames=17).size.num_frames == 17
    with pytest.raises(ValueError, match="learned positions for 48x32 only, got 64x32"):
        pipeline.request(prompt="a boat", image=picture, width=64)


def test_defaults_that_components_bring_are_not_saved_twice(tmp_path):
    pipeline = outline("CogVideoXPipeline")
    pipeline.defaults["num_inference_steps"] = 7
    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_defaults"] == {"num_inference_steps": 7}


def test_latents_of_a_clip_decide_the_length():
    pipeline = outline("CogVideoXVideoToVideoPipeline")
    for num_latents, num_frames in ((1, 1), (2, 8), (3, 9), (4, 16)):
        request = pipeline.request(prompt="a boat", latents=torch.zeros(1, num_latents, 4, 4, 6))
        assert request.size.num_frames == num_frames


def drawing(generator):
    """As much of a session as drawing latents takes."""
    return SimpleNamespace(generator=generator, coding=None)


def test_latents_of_two_clips_are_drawn_one_after_the_other():
    pipeline = outline("CogVideoXPipeline")
    pipeline.vae = filmstrip.AutoencoderKLCogVideoX(**{**tiny.COGVIDEOX_AUTOENCODER, "latent_channels": 3})
    clips = torch.randn(2, 3, 1, 24, 24)  # 27 values each: no multiple of 16, the numbers that torch draws at a time
    with torch.no_grad():
        together = pipeline.encode_video(clips, drawing(torch.Generator().manual_seed(1)))
        session = drawing(torch.Generator().manual_seed(1))
        in_turn = [pipeline.encode_video(clip[None], session) for clip in clips]
    torch.testing.assert_close(together, torch.cat(in_turn), rtol=1e-5, atol=1e-5)

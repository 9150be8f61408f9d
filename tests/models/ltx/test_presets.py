"""What published checkpoints of LTX-Video were made for is used where nothing else is said."""

import json

import pytest

from filmstrip import LTXConditionPipeline, LTXPipeline
from filmstrip.registry import preset_of
from tests.cli.tiny_checkpoint import tiny_pipeline

DISTILLED = "LTX-Video-0.9.8-13B-distilled"


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "decode"),
    [
        ("Lightricks/LTX-Video", None, None, None),
        ("Lightricks/LTX-Video-0.9.5", None, None, 0.05),
        ("Lightricks/LTX-Video-0.9.7-dev", 30, 5.0, 0.05),
        ("Lightricks/LTX-Video-0.9.7-distilled", 8, 1.0, 0.05),
        (f"Lightricks/{DISTILLED}", 8, 1.0, 0.05),
        ("models/ltx-video-0.9.8-13b-distilled/", 8, 1.0, 0.05),
        ("somebody/my-model", None, None, None),
    ],
)
def test_the_name_of_a_checkpoint_says_what_it_was_made_for(name, steps, guidance, decode):
    preset = preset_of("LTXPipeline", name)
    found = [preset.get(key) for key in ("num_inference_steps", "guidance_scale", "decode_timestep")]
    assert found == [steps, guidance, decode]


@pytest.fixture
def distilled(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / DISTILLED)
    config = tmp_path / DISTILLED / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"timestep_conditioning": True}))
    return tmp_path / DISTILLED


SIZE = {"height": 64, "width": 64, "num_frames": 9}


@pytest.mark.parametrize("kind", [LTXPipeline, LTXConditionPipeline])
def test_a_call_that_says_nothing_gets_it(distilled, kind):
    arguments = kind.outline(distilled).request(prompt="a cat", **SIZE).arguments
    assert len(arguments.timesteps) == arguments.num_inference_steps == 8
    assert (arguments.guidance_scale, arguments.decode_timestep, arguments.decode_noise_scale) == (1.0, 0.05, 0.025)


def test_what_a_call_says_comes_first(distilled):
    outline = LTXPipeline.outline(distilled)
    chosen = outline.request(prompt="a cat", num_inference_steps=20, guidance_scale=4.0, **SIZE).arguments
    assert (chosen.timesteps, chosen.num_inference_steps, chosen.guidance_scale) == (None, 20, 4.0)
    own = outline.request(prompt="a cat", timesteps=[1000, 500], **SIZE).arguments
    assert list(own.timesteps) == [1000, 500]


def test_what_a_checkpoint_says_itself_comes_first(distilled):
    index = distilled / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_defaults": {"guidance_scale": 2.0}}))
    assert LTXPipeline.outline(distilled).defaults["guidance_scale"] == 2.0


def test_a_job_tells_it(distilled):
    from filmstrip.jobs import Job, resolve_job

    asked = {"prompt": "a cat", "decode_timestep": 0.1, **SIZE}
    resolved = resolve_job(Job(str(distilled), seed=1, arguments=asked))
    [note] = [one for one in resolved.notes if "was made for" in one]
    assert "guidance_scale 1.0" in note and "decode_timestep" not in note


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 20, 50, 300])
def test_a_clip_is_changed_from_a_noise_at_which_it_still_shows(num_steps):
    """Most steps of the schedule are near pure noise, where two clips would give one video."""
    pipeline = LTXConditionPipeline.from_pipe(tiny_pipeline())
    request = pipeline.request(prompt="a", num_inference_steps=num_steps, **SIZE)
    strength = pipeline.strength_at(request, 0.75)
    run = pipeline.start(request)
    sigmas, begin = run.sigmas, run.begin_of(strength)
    assert sigmas[begin] <= 0.75 or begin == num_steps - 1
    assert begin == 0 or sigmas[begin - 1] > 0.75

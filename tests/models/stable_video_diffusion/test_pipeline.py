"""What is special about Stable Video Diffusion: its sizes, notes, noise, chunks, and how it goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

import filmstrip
from filmstrip.generation.session import Session
from filmstrip.models.stable_video_diffusion.pictures import read_pictures
from tests.contract.registered import CASES
from tests.contract.runs import close, seeded, video
from tests.models.stable_video_diffusion.cases import CALL
from tests.tiny_stable_video_diffusion import SCHEDULE, parts, picture

MANIFESTS = Path(__file__).parent / "manifests"
CASE = next(case for case in CASES if case.name == "Stable Video Diffusion")
LARGE = {"height": 40, "width": 40}  # no fewer pixels than the tiny U-Net was made for


@pytest.fixture
def pipe():
    made = filmstrip.StableVideoDiffusionPipeline(**parts())
    made.set_progress_bar_config(disable=True)
    return made


def latents_of(pipe, **given):
    return pipe(**{**CALL, "generator": seeded(), "output_type": "latent", **given}).frames


@pytest.mark.parametrize(("name", "frames"), [("img2vid", 14), ("img2vid-xt", 25)])
def test_the_published_checkpoints_make_what_they_were_made_for(name, frames):
    outline = filmstrip.Pipeline.outline(MANIFESTS / f"stable-video-diffusion-{name}")
    size = outline.request(image=picture(0)).size
    assert (size.width, size.height, size.num_frames, size.frame_rate) == (1024, 576, frames, 7)
    assert size.adjustments == ()
    assert outline.defaults["num_inference_steps"] == 25


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"height": 8, "width": 8}, "videos with fewer pixels, as these of 8x8, come out worse"),
        ({"motion_bucket_id": 256}, "motion_bucket_id 256 is outside of 0 to 255"),
        ({"motion_bucket_id": -1}, "motion_bucket_id -1 is outside"),
        ({"num_frames": 5}, "made for 4 frames; of 5"),
    ],
)
def test_what_can_be_made_but_not_well_is_a_note(pipe, given, words):
    (sentence,) = pipe.request(**{**CALL, **LARGE, **given}).size.adjustments
    assert words in sentence


def test_a_solver_that_tells_the_network_steps_is_noted(pipe):
    pipe.scheduler = filmstrip.EulerDiscreteScheduler(prediction_type="v_prediction")
    (sentence,) = pipe.request(**{**CALL, **LARGE}).size.adjustments
    assert "made for logarithms of noise levels" in sentence


def test_a_checkpoint_of_another_task_is_refused():
    with pytest.raises(ValueError, match="takes 9 channels"):
        filmstrip.StableVideoDiffusionPipeline(**parts(in_channels=9)).request(**CALL)
    with pytest.raises(ValueError, match="told 4 numbers"):
        filmstrip.StableVideoDiffusionPipeline(**parts(projection_class_embeddings_input_dim=32)).request(**CALL)


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
def test_a_generator_for_each_video_decides_it_alone(pipe, scheduler):
    settings = SCHEDULE if scheduler == "EulerDiscreteScheduler" else {"prediction_type": "v_prediction"}
    pipe.scheduler = getattr(filmstrip, scheduler)(**settings)
    torch.manual_seed(0)
    both = video(CASE, pipe, image=[picture(0), picture(1)], generator=[seeded(3), seeded(4)], noise_aug_strength=0.5)
    torch.manual_seed(1)
    alone = [
        video(CASE, pipe, image=picture(index), generator=seeded(3 + index), noise_aug_strength=0.5)
        for index in range(2)
    ]
    close(both, torch.cat(alone))


def test_videos_of_one_picture_have_noise_of_their_own_on_it(pipe):
    given = {"num_videos_per_prompt": 2, "noise_aug_strength": 0.5}
    request = pipe.request(**{**CALL, **given, "generator": [seeded(3), seeded(4)]})
    with torch.no_grad():
        first, second = pipe.encode(Session(pipe, request)).image_latents
    assert (first - second).abs().max() > 0.01


def test_float16_is_encoded_in_float32(pipe):
    pipe.vae.to(torch.float16)
    request = pipe.request(**CALL, generator=seeded())
    with torch.no_grad():
        found = pipe.encode(Session(pipe, request)).image_latents
        pipe.vae.to(torch.float32)
        exact = pipe.encode(Session(pipe, pipe.request(**CALL, generator=seeded()))).image_latents
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=1e-3)  # weights alone are rounded


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_of_a_list_may_have_several_sizes(pipe):
    pictures = [picture(0), picture(1).resize((64, 20)), picture(2).convert("L")]
    frames = pipe(**{**CALL, "image": pictures}, generator=seeded(), output_type="np").frames
    assert frames.shape == (3, 4, 16, 24, 3)
    arrays = [np.asarray(one.convert("RGB")) for one in pictures]
    _, of_pictures = read_pictures(pictures, 16, 24, 32)
    _, of_arrays = read_pictures(arrays, 16, 24, 32)
    torch.testing.assert_close(of_pictures, of_arrays)


# ---- going on --------------------------------------------------------------------------------------------------------


def test_a_clip_goes_on_from_its_last_latents(pipe):
    clip = latents_of(pipe)
    request = pipe.request(**{**CALL, "image": None}, continue_from=clip, generator=seeded())
    with torch.no_grad():
        conditions = pipe.encode(Session(pipe, request))
    assert torch.equal(conditions.image_latents, clip[:, -1] / pipe.vae.config.scaling_factor)
    last = pipe.decode_latents(clip[:, -1:])[:, :, 0]
    seen = latents_of(pipe, continue_from=clip, image=(last + 1).clamp(0, 2) / 2)
    torch.testing.assert_close(latents_of(pipe, continue_from=clip, image=None), seen, atol=1e-4, rtol=1e-4)


def test_a_batch_goes_on_as_each_clip_does(pipe):
    clips = latents_of(pipe, num_videos_per_prompt=2)
    both = latents_of(pipe, image=None, continue_from=clips, generator=[seeded(0), seeded(1)])
    alone = [
        latents_of(pipe, image=None, continue_from=clips[index : index + 1], generator=seeded(index))
        for index in range(2)
    ]
    close(both, torch.cat(alone))


def test_the_recipe_of_the_guide_for_long_clips(pipe, tmp_path):
    clips = [latents_of(pipe)]
    for _ in range(2):
        clips.append(latents_of(pipe, image=None, continue_from=clips[-1])[:, 1:])
    frames = pipe.decode_latents(torch.cat(clips, dim=1), decode_chunk_size=25)
    filmstrip.export_to_video(list((frames[0].movedim(0, 1) / 2 + 0.5).clamp(0, 1)), tmp_path / "long.mkv", fps=7)
    assert len(filmstrip.load_video(tmp_path / "long.mkv")) == 4 + 3 + 3


# ---- decoding --------------------------------------------------------------------------------------------------------


def test_chunks_come_closer_to_the_whole_the_more_they_see(pipe):
    latents = torch.randn(1, 8, 4, 8, 12, generator=seeded())
    whole = pipe.decode_latents(latents)

    def error(chunk, overlap):
        coding = pipe.vae.in_chunks(chunk, overlap)
        frames = torch.cat(list(pipe.vae.decode_stream(latents[0] / 0.18215, 8, coding)), dim=2)
        return float((frames - whole).norm() / whole.norm())

    with torch.no_grad():
        errors = [error(2, overlap) for overlap in (0, 1, 2, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6 < errors[0]


def test_chunks_never_hold_frames_of_two_videos(pipe):
    latents = torch.randn(2, 3, 4, 8, 12, generator=seeded())
    alone = [pipe.decode_latents(one[None], decode_chunk_size=2) for one in latents]
    assert torch.equal(pipe.decode_latents(latents, decode_chunk_size=2), torch.cat(alone))


def test_the_size_of_chunks_is_kept_in_whatever_way_memory_wants(pipe):
    request = pipe.request(**CALL, decode_chunk_size=3, decode_overlap=1, generator=seeded())
    latents = torch.randn(1, 4, 4, 8, 12, generator=seeded())
    for coding in (None, pipe.vae.coding):
        with torch.no_grad():
            runs = list(pipe.decode(Session(pipe, request), pipe.vae, latents, coding))
        assert [run.shape[2] for run in runs] == [3, 1]


def test_who_watches_a_layer_sees_what_it_gave(pipe):
    latents, seen = torch.randn(3, 4, 8, 12, generator=seeded()), []
    block = pipe.vae.decoder.mid_block.resnets[0].spatial_res_block
    with torch.no_grad():
        expected = pipe.vae.decode(latents, 3).sample
        with block.register_forward_hook(lambda _, __, output: seen.append((output, output.clone()))):
            found = pipe.vae.decode(latents, 3).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(output, then) for output, then in seen)


def test_frames_that_make_no_whole_video_are_refused(pipe):
    with pytest.raises(ValueError, match="5 latents make no whole number of videos of 3 frames"):
        pipe.vae.decode(torch.zeros(5, 4, 8, 8), num_frames=3)
    with pytest.raises(ValueError, match="the latents have 3 frames"):
        pipe.decode_latents(torch.zeros(1, 3, 4, 8, 8), num_frames=4)


def test_the_network_says_how_many_numbers_it_takes(pipe):
    with pytest.raises(ValueError, match="must have 3 numbers in a row, got 2"):
        pipe.unet(torch.zeros(1, 2, 8, 4, 4), 1.0, torch.zeros(1, 1, 16), torch.zeros(1, 2))

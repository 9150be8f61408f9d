"""What I2VGen-XL does of its own: pictures that are cropped and seen twice, their noise, rates, layouts of CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import filmstrip
from filmstrip.media.pixels import normalized_for_clip
from filmstrip.models.i2vgen_xl.pictures import cropped, pictures_in, seen_by_clip, squares_of
from tests.tiny_i2vgen_xl import SIDE, image_processor, parts, picture

CALL = {
    "prompt": "a star",
    "image": picture(),
    "height": 16,
    "width": 12,
    "num_frames": 4,
    "num_inference_steps": 2,
    "output_type": "pt",
}


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    return quiet(filmstrip.I2VGenXLPipeline(**parts()))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_usual_video_is_that_of_the_published_model(pipeline):
    request = pipeline.request(prompt="a star", image=picture(0, 1280, 704))
    size = request.size
    assert (size.width, size.height, size.num_frames, size.frame_rate) == (1280, 704, 16, 16)
    assert request.arguments.guidance_scale == 9.0 and request.arguments.num_inference_steps == 50
    assert request.arguments.clip_skip == 1 and request.arguments.decode_chunk_size == 1
    assert pipeline.request(prompt="a star", image=picture(0, 1280, 704), target_fps=8).size.frame_rate == 8


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_that_a_picture_is_cropped_is_told(pipeline):
    wide, high = picture(0, 40, 16), picture(0, 12, 30)
    for image in (wide, high):
        (told,) = pipeline.request(**{**CALL, "image": image}).size.adjustments
        assert told == (
            f"The picture is {image.width}x{image.height} and the video 12x16: what is too much of the picture is cut"
            " off, evenly on two sides."
        )
    both = pipeline.request(**{**CALL, "prompt": ["a", "b"], "image": [wide, high]}).size.adjustments
    assert len(both) == 2
    assert pipeline(**{**CALL, "image": wide}).report.adjustments


@pytest.mark.parametrize("size", [(12, 16), (24, 32), (120, 160)])
def test_nothing_is_said_of_a_picture_that_fits(pipeline, size):
    assert pipeline.request(**{**CALL, "image": picture(0, *size)}).size.adjustments == ()


def test_the_middle_of_a_picture_is_used():
    levels = np.zeros((8, 24, 3), np.uint8)
    levels[:, 8:16] = 255
    assert np.asarray(cropped(Image.fromarray(levels), 8, 8)).min() == 255
    assert np.asarray(cropped(Image.fromarray(levels.transpose(1, 0, 2)), 8, 8)).min() == 255


@pytest.mark.parametrize("own", [(333, 200), (200, 333), (97, 97), (1023, 700), (7, 5)])
def test_a_cropped_picture_has_no_black_line(own):
    white = Image.new("RGB", own, "white")
    for wanted in ((40, 40), (1280, 704), (88, 56)):
        made = cropped(white, *wanted)
        assert made.size == wanted and np.asarray(made).min() == 255


def test_every_form_of_a_picture_is_the_same_one(pipeline):
    image = picture()
    array = np.asarray(image)
    unit = torch.from_numpy(array / np.float32(255)).movedim(-1, 0)
    forms = [[image], array, array[None], unit, [unit], unit[None], unit * 2 - 1, image.convert("RGBA")]
    expected = pipeline.request(**CALL)
    for form in forms:
        request = pipeline.request(**{**CALL, "image": form})
        assert torch.equal(request.pixels, expected.pixels) and torch.equal(request.squares, expected.squares)


def test_pictures_of_several_sizes_are_taken(pipeline):
    request = pipeline.request(**{**CALL, "prompt": ["a", "b"], "image": [picture(0, 30, 40), picture(1, 40, 30)]})
    assert request.pixels.shape == (2, 3, 16, 12) and request.squares.shape == (2, 12, 12, 3)
    assert [one.size for one in pictures_in([picture(0, 30, 40), torch.zeros(2, 3, 5, 6)])] == [(30, 40), *[(6, 5)] * 2]


def test_clip_sees_pictures_as_its_processor_normalises_them():
    processor = image_processor()
    small = seen_by_clip(squares_of([picture(0, 48, 32)], 24), SIDE)
    levels = ((small / 2 + 0.5) * 255).round().to(torch.uint8)
    options = {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
    expected = processor(images=list(levels), **options).pixel_values
    torch.testing.assert_close(normalized_for_clip(small, processor), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(normalized_for_clip(small, None), normalized_for_clip(small, processor))


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_all_noise_comes_from_each_videos_generator(scheduler):
    pipeline = quiet(filmstrip.I2VGenXLPipeline(**parts(scheduler)))
    before = torch.get_rng_state()
    together = pipeline(**CALL, num_videos_per_prompt=2, generator=[seeded(1), seeded(2)]).frames
    alone = [pipeline(**CALL, generator=seeded(seed)).frames for seed in (1, 2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=3e-5, atol=3e-5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(pipeline(**CALL, generator=seeded(1)).frames, alone[0])


def test_each_prompt_has_its_picture_for_all_its_videos(pipeline):
    pictures, prompts = [picture(0), picture(1)], ["a cat", "two dogs"]
    generators = [seeded(seed) for seed in range(4)]
    given = {**CALL, "prompt": prompts, "image": pictures, "num_videos_per_prompt": 2}
    together = pipeline(**given, generator=generators).frames
    alone = [
        pipeline(**{**CALL, "prompt": prompts[i // 2], "image": pictures[i // 2]}, generator=seeded(i)).frames
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=3e-5, atol=3e-5)


def test_one_picture_serves_several_prompts(pipeline):
    prompts = ["a cat", "two dogs"]
    together = pipeline(**{**CALL, "prompt": prompts}, generator=[seeded(0), seeded(1)]).frames
    alone = [pipeline(**{**CALL, "prompt": one}, generator=seeded(i)).frames for i, one in enumerate(prompts)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=3e-5, atol=3e-5)


# ---- what the network is given ---------------------------------------------------------------------------------------


def test_other_frames_are_told_their_places(pipeline):
    seen = []
    pipeline(
        **CALL,
        generator=seeded(0),
        callback_on_step_end=lambda _, __, ___, tensors: seen.append(tensors) or {},
        callback_on_step_end_tensor_inputs=["image_latents", "image_embeddings"],
    )
    latents = seen[0]["image_latents"]
    assert latents.shape == (1, 4, 4, 8, 6) and seen[0]["image_embeddings"].shape == (1, 1, 16)
    assert torch.equal(latents[:, :, 1:], (torch.arange(1, 4) / 3)[:, None, None].expand(1, 4, 3, 8, 6))
    assert latents[:, :, 0].std() > 0


def test_a_callback_can_change_what_the_picture_says(pipeline):
    def change(_, step, __, tensors):
        return {"image_embeddings": torch.zeros_like(tensors["image_embeddings"])}

    names = ["latents", "image_embeddings"]
    plain = pipeline(**CALL, generator=seeded(0)).frames
    changed = pipeline(
        **CALL, generator=seeded(0), callback_on_step_end=change, callback_on_step_end_tensor_inputs=names
    )
    assert not torch.equal(changed.frames, plain)


def test_a_checkpoint_of_another_task_is_refused():
    other = filmstrip.I2VGenXLPipeline(**parts(in_channels=8))
    with pytest.raises(ValueError, match="made for another task: its U-Net takes 8 channels"):
        other.request(**CALL)


def test_a_picture_is_taken_without_weights_too(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    outline = filmstrip.I2VGenXLPipeline.outline(tmp_path)
    assert outline.image_encoder is None
    assert outline.request(**CALL).pixels.shape == (1, 3, 16, 12)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_level", [True, False])
def test_files_of_clip_load_with_and_without_the_older_level_of_names(pipeline, with_level, tmp_path):
    pipeline.save_pretrained(tmp_path)
    file = next((tmp_path / "text_encoder").glob("*.safetensors"))
    plain = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    save_file({("text_model." if with_level else "") + name: one for name, one in plain.items()}, file)
    loaded = quiet(filmstrip.I2VGenXLPipeline.from_pretrained(tmp_path))
    for call in (CALL, {**CALL, "clip_skip": None}):
        assert torch.equal(loaded(**call, generator=seeded(0)).frames, pipeline(**call, generator=seeded(0)).frames)


# ---- solvers that draw noise -----------------------------------------------------------------------------------------


def test_with_noise_at_each_step_a_batch_is_what_its_videos_are_alone():
    pipeline = quiet(filmstrip.I2VGenXLPipeline(**parts("EulerAncestralDiscreteScheduler")))
    texts, pictures = ["a star", "two dogs"], [picture(0), picture(1)]
    given = {**CALL, "prompt": texts, "image": pictures, "generator": [seeded(1), seeded(2)]}
    batch = pipeline(**given).frames
    for index, (text, image) in enumerate(zip(texts, pictures, strict=True)):
        alone = pipeline(**{**CALL, "prompt": text, "image": image, "generator": seeded(index + 1)}).frames
        torch.testing.assert_close(batch[index : index + 1], alone, rtol=1e-4, atol=1e-5)
    assert not torch.equal(batch[0], pipeline(**{**given, "generator": [seeded(3), seeded(2)]}).frames[0])


def test_eta_is_refused_by_solvers_without_it():
    pipeline = quiet(filmstrip.I2VGenXLPipeline(**parts("EulerAncestralDiscreteScheduler")))
    with pytest.raises(ValueError, match="eta has no effect with EulerAncestralDiscreteScheduler"):
        pipeline(**CALL, eta=0.5)

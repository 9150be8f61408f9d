"""Pixels go in and out as in the reference implementation."""

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image

from filmstrip.media import preprocess_image, preprocess_video, video_to_output

REFERENCE = VideoProcessor(vae_scale_factor=8)


def random_video(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.7


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_float32_output_is_equal(output_type):
    video = random_video(2, 3, 4, 17, 23)
    got, wanted = (call(video, output_type) for call in (video_to_output, REFERENCE.postprocess_video))
    assert type(got) is type(wanted)
    np.testing.assert_array_equal(np.array(got), np.array(wanted))


def test_bfloat16_output_is_nearer_to_float32_than_the_reference():
    exact = random_video(1, 3, 3, 32, 32)
    video = exact.bfloat16()
    wanted = REFERENCE.postprocess_video(video.float(), "np")
    ours = np.abs(video_to_output(video, "np") - wanted).max()
    theirs = np.abs(REFERENCE.postprocess_video(video, "np") - wanted).max()
    assert ours == 0 < theirs
    torch.testing.assert_close(video_to_output(video, "pt"), REFERENCE.postprocess_video(video, "pt"), rtol=0, atol=0)


def pictures(count: int, height: int = 37, width: int = 53) -> list[Image.Image]:
    levels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return [Image.fromarray(frame) for frame in levels]


FLOATS = np.random.default_rng(1).random((5, 37, 53, 3), np.float32)
TENSOR = torch.from_numpy(FLOATS).movedim(-1, 1)


@pytest.mark.parametrize(
    "image",
    [
        pictures(1)[0],
        pictures(3),
        FLOATS[0],
        FLOATS,
        list(FLOATS),
        TENSOR[0],
        TENSOR,
        list(TENSOR),
    ],
    ids=["picture", "pictures", "array", "arrays", "list of arrays", "tensor", "tensors", "list of tensors"],
)
@pytest.mark.parametrize(("height", "width"), [(32, 48), (64, 40), (16, 16)])
def test_images_are_equal(image, height, width):
    got, wanted = preprocess_image(image, height, width), REFERENCE.preprocess(image, height, width)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    "video",
    [
        pictures(5),
        [pictures(5), pictures(5)],
        FLOATS,
        FLOATS[None],
        [FLOATS, FLOATS],
        list(FLOATS),
        TENSOR,
        torch.stack([TENSOR, TENSOR]),
        [TENSOR, TENSOR],
        list(TENSOR),
    ],
    ids=lambda video: f"{type(video).__name__} of {type(video[0]).__name__}",
)
def test_videos_are_equal(video):
    got, wanted = preprocess_video(video, 32, 48), REFERENCE.preprocess_video(video, 32, 48)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-7)


@pytest.mark.filterwarnings("ignore:Passing `image` as torch tensor:FutureWarning")
def test_pixels_that_are_in_the_symmetric_range_stay():
    symmetric = TENSOR * 2 - 1
    torch.testing.assert_close(preprocess_image(symmetric, 32, 48), REFERENCE.preprocess(symmetric, 32, 48))

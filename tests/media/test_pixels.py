"""Frames of every kind arrive as the same uint8 levels; pixels leave in every output type."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip.media import contact_sheet, preprocess_image, preprocess_video, to_uint8_frames, video_to_output
from filmstrip.media.pixels import picture_size
from tests.media.clips import moving_square

FRAMES = moving_square(4, 10, 12)
TENSOR = torch.from_numpy(FRAMES)  # (frames, height, width, channels)
PICTURES = [Image.fromarray(frame) for frame in FRAMES]

FORMS = {
    "pictures": PICTURES,
    "tuple of pictures": tuple(PICTURES),
    "batch of one list": [PICTURES],
    "array": FRAMES,
    "array of a batch of one": FRAMES[None],
    "list of arrays": list(FRAMES),
    "list of one video": [FRAMES],
    "channels first array": FRAMES.transpose(0, 3, 1, 2),
    "float64 array": FRAMES / 255,
    "float32 arrays": list((FRAMES / 255).astype(np.float32)),
    "tensor": TENSOR,
    "channels first tensor": TENSOR.movedim(-1, 1),
    "batch of one tensor": TENSOR.movedim(-1, 1)[None],
    "float tensor": TENSOR.movedim(-1, 1) / 255,
    "list of float tensors": list(TENSOR.movedim(-1, 1) / 255),
    "bfloat16 tensor": (TENSOR / 255).bfloat16(),
    "tensor with a gradient": (TENSOR / 255).requires_grad_(),
    "iterator of frames": lambda: iter(PICTURES),
    "iterator of portions": lambda: (TENSOR[start : start + 3] for start in (0, 3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_levels(form):
    frames = FORMS[form]() if callable(FORMS[form]) else FORMS[form]
    got = np.stack(list(to_uint8_frames(frames)))
    assert got.dtype == np.uint8
    # bfloat16 has 8 significant bits: half a level's rounding error, then the rounding to levels.
    np.testing.assert_allclose(got.astype(int), FRAMES, atol=1 if "bfloat16" in form else 0)


def test_grey_becomes_three_equal_channels_and_alpha_is_dropped():
    grey = FRAMES[..., :1]
    for frames in (grey, list(grey[..., 0]), torch.from_numpy(grey).movedim(-1, 1)):
        np.testing.assert_array_equal(np.stack(list(to_uint8_frames(frames))), np.repeat(grey, 3, -1))
    (frame,) = to_uint8_frames(PICTURES[0].convert("RGBA"))
    np.testing.assert_array_equal(frame, FRAMES[0])


def test_small_overshoot_is_clipped():
    (frame,) = to_uint8_frames(np.full((2, 2, 3), 1.02, np.float32))
    assert (frame == 255).all()
    (frame,) = to_uint8_frames(torch.full((3, 2, 2), -0.02))
    assert (frame == 0).all()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([PICTURES, PICTURES], "batch of 2"),
        (np.stack([FRAMES, FRAMES]), "batch of 2"),
        (torch.stack([TENSOR, TENSOR, TENSOR]), "batch of 3"),
        (FRAMES.astype(np.float32), "uint8 for one"),
        (TENSOR.float() / 127.5 - 1, r"\(video \+ 1\) / 2"),
        (np.full((1, 2, 2, 3), np.nan), "frame 0 holds NaN"),
        (torch.tensor([0.5, float("nan")]).expand(1, 3, 2, 2), "frame 0 holds NaN"),
        (FRAMES.astype(np.int64), "int64"),
        (FRAMES[..., :2], "3 channels"),
        (np.zeros(3), "2 to 5 dimensions"),
        ([], "no frames"),
        ("video.mp4", "got str"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(frames, message):
    with pytest.raises(ValueError, match=message):
        list(to_uint8_frames(frames))


def test_output_types_hold_the_same_pixels():
    video = torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 2.0]).view(1, 1, 1, 1, 6).expand(2, 3, 4, 5, 6)
    unit = np.array([0, 0, 0.5, 0.75, 1, 1], np.float32)
    levels = np.array([0, 0, 128, 191, 255, 255], np.uint8)
    array = video_to_output(video, "np")
    assert (array.shape, array.dtype) == ((2, 4, 5, 6, 3), np.float32)
    np.testing.assert_array_equal(array[1, 3, 2, :, 1], unit)
    tensor = video_to_output(video, "pt")
    assert tensor.shape == (2, 4, 3, 5, 6)
    np.testing.assert_array_equal(tensor[1, 3, 2, 1].numpy(), unit)
    uint8 = video_to_output(video, "uint8")
    assert (uint8.shape, uint8.dtype) == ((2, 4, 5, 6, 3), np.uint8)
    np.testing.assert_array_equal(uint8[1, 3, 2, :, 1], levels)
    pictures = video_to_output(video, "pil")
    np.testing.assert_array_equal(np.stack([np.stack(frames) for frames in pictures]), uint8)
    assert video.max() == 2  # the input is as it was
    with pytest.raises(ValueError, match="output_type must be one of"):
        video_to_output(video, "numpy")


def test_bfloat16_video_is_rounded_once():
    video = torch.rand(1, 3, 2, 16, 16).mul(2).sub(1).bfloat16()
    for output_type in ("np", "uint8"):
        np.testing.assert_array_equal(video_to_output(video, output_type), video_to_output(video.float(), output_type))
    assert video_to_output(video, "pt").dtype == torch.bfloat16


@pytest.mark.parametrize(
    "form", ["pictures", "array", "float64 array", "tensor", "batch of one list", "list of arrays"]
)
def test_a_video_of_the_right_size_passes_through_unchanged(form):
    video = preprocess_video(FORMS[form], 10, 12)
    assert (video.shape, video.dtype) == ((1, 3, 4, 10, 12), torch.float32)
    np.testing.assert_array_equal(video_to_output(video, "uint8")[0], FRAMES)


def test_pictures_with_alpha_grey_or_a_palette_are_taken_as_rgb():
    for mode in ("RGBA", "L", "P"):
        picture = PICTURES[0].convert(mode)
        wanted = preprocess_image(picture.convert("RGB"), 10, 12)
        torch.testing.assert_close(preprocess_image(picture, 10, 12), wanted)
    assert preprocess_image(FRAMES[0, ..., 0], 5, 6).shape == (1, 3, 5, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preprocess_image("cat.png", 8, 8), "got str"),
        (lambda: preprocess_image([], 8, 8), "no picture"),
        (lambda: preprocess_image([PICTURES[0], "cat.png"], 8, 8), "must be a PIL image"),
        (lambda: preprocess_image(FRAMES[0].astype(np.int64), 8, 8), "int64"),
        (lambda: preprocess_video(FRAMES[0], 8, 8), "4 dimensions"),
        (lambda: preprocess_video("cat.mp4", 8, 8), "a list of frames"),
        (lambda: preprocess_video([PICTURES, PICTURES[:2]], 8, 8), "same number of frames, got 4 and 2"),
    ],
)
def test_inputs_that_are_no_pictures_are_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_contact_sheet_shows_the_first_and_the_last_frame():
    frames = np.stack([np.full((8, 10, 3), 5 * index, np.uint8) for index in range(40)])
    sheet = np.asarray(contact_sheet(frames, columns=4, max_frames=8))
    assert sheet.shape == (2 * 12 + 4, 4 * 14 + 4, 3)
    shown = sheet[6::12, 6::14, 0][:2, :4].ravel()
    assert (shown[0], shown[-1]) == (0, 195)
    assert (np.diff(shown.astype(int)) > 20).all()
    assert contact_sheet(frames, width=100).width <= 100
    with pytest.raises(ValueError, match="fewer columns"):
        contact_sheet(frames, columns=16, width=40)


def test_pictures_are_written_without_torch(tmp_path):
    program = (
        "import sys; from PIL import Image; from filmstrip.utils import export_to_video, load_video\n"
        f"load_video(export_to_video([Image.new('RGB', (16, 16))] * 2, {str(tmp_path / 'video.mp4')!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_size_of_a_picture_is_that_of_its_pixels():
    for picture in (PICTURES[0], PICTURES, FRAMES[0], FRAMES, FRAMES[0, ..., 0], TENSOR[0].movedim(-1, 0), [TENSOR[0]]):
        assert picture_size(picture) == (10, 12)
    with pytest.raises(ValueError, match="got str"):
        picture_size("cat.png")

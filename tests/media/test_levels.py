"""Every depth and kind of picture becomes the RGB that it shows, for networks and for files alike."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip.media import (
    canny_edges,
    contact_sheet,
    export_to_video,
    load_image,
    load_video,
    preprocess_image,
    preprocess_video,
    read_video,
    to_uint8_frames,
)
from filmstrip.media.levels import ON_WHITE, to_rgb
from filmstrip.media.pixels import picture_size

RAMP = np.linspace(0, 1, 12 * 16).reshape(12, 16)
LEVELS = np.rint(RAMP * 255).astype(np.uint8)
SIXTEEN = np.rint(RAMP * 65535).astype(np.uint16)
GREY = np.repeat(LEVELS[..., None], 3, -1)


def written(frame):
    """What a file would get of a frame."""
    (levels,) = to_uint8_frames([frame])
    return levels


def fed(picture):
    """What a network would get of a picture, in levels."""
    pixels = preprocess_image(picture, *GREY.shape[:2])
    return ((pixels[0].movedim(0, -1).numpy() + 1) * 127.5).round().astype(np.uint8)


DEEP = {
    "I;16": Image.fromarray(SIXTEEN),
    "I;16B": Image.frombytes("I;16B", (16, 12), SIXTEEN.astype(">u2").tobytes()),
    "I": Image.fromarray(SIXTEEN.astype(np.int32)),
    "F in 0..1": Image.fromarray(RAMP.astype(np.float32)),
    "F in 0..255": Image.fromarray((RAMP * 255).astype(np.float32)),
    "F that overshoots": Image.fromarray((RAMP * 1.002 - 0.001).astype(np.float32)),
    "L": Image.fromarray(LEVELS),
    "uint16": SIXTEEN,
    "uint16 tensor": torch.from_numpy(SIXTEEN),
    "float16": RAMP.astype(np.float16),
    "float64": RAMP,
    "longdouble": RAMP.astype(np.longdouble),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("way", [written, fed])
def test_every_depth_of_grey_shows_the_same_ramp(way, kind):
    np.testing.assert_allclose(way(DEEP[kind]).astype(int), GREY.astype(int), atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_a_depth_map_of_16_bits_comes_from_a_file(suffix, tmp_path):
    Image.fromarray(SIXTEEN).save(tmp_path / f"depth{suffix}")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / f"depth{suffix}")), GREY)
    np.testing.assert_array_equal(read_video(tmp_path / f"depth{suffix}")[0][0], GREY)
    (tmp_path / "frames").mkdir()
    for index in range(2):
        Image.fromarray(SIXTEEN).save(tmp_path / "frames" / f"{index}{suffix}")
    np.testing.assert_array_equal(np.stack(load_video(tmp_path / "frames"))[1], GREY)


@pytest.mark.parametrize("suffix", [".tif", ".pfm"])
def test_a_depth_map_of_floats_comes_from_a_file(suffix, tmp_path):
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / f"depth{suffix}")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / f"depth{suffix}")), GREY)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.fromarray(np.array([[0, 70000]], np.int32)), "16 bits, got 0 to 70000"),
        (Image.fromarray(np.array([[-1, 9]], np.int32)), "got -1 to 9"),
        (Image.fromarray(np.array([[0, 200]], np.int32)), "may have 8 bits or 16"),
        (Image.fromarray(np.array([[0, 3000]], np.float32)), r"in \[0, 1\] or in \[0, 255\], got 0 to 3e\+03"),
        (Image.fromarray(np.array([[-1, 1]], np.float32)), "got -1 to 1"),
        (Image.fromarray(np.array([[0, np.nan]], np.float32)), "got nan"),
        (Image.fromarray(np.array([[0, np.inf]], np.float32)), "got 0 to inf"),
    ],
)
@pytest.mark.parametrize("way", [written, fed, load_image, to_rgb])
def test_levels_that_can_not_be_known_are_refused(way, picture, said):
    with pytest.raises(ValueError, match=said):
        way(picture)


FLOATS = np.repeat(RAMP[..., None], 3, -1).astype(np.float32)


def with_one(value):
    changed = FLOATS.copy()
    changed[3, 4, 1] = value
    return changed


@pytest.mark.parametrize(
    "of", [np.asarray, torch.from_numpy, lambda one: list(one[None])], ids=["array", "tensor", "list"]
)
@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (FLOATS * 255, r"floats as pixels must be in \[0, 1\].* got 0 to 255"),
        (with_one(np.nan), "holds NaN"),
        (with_one(np.inf), "to inf"),
        (with_one(-np.inf), "got -inf"),
        (FLOATS * 510 - 255, "got -255 to 255"),
        (FLOATS * 3, "got 0 to 3"),
        (FLOATS * 40 - 20, "got -20 to 20"),
    ],
    ids=["0..255", "NaN", "inf", "-inf", "-255..255", "0..3", "-20..20"],
)
def test_floats_of_another_range_are_refused_everywhere(pixels, said, of):
    given = of(pixels)
    for take in (
        lambda: preprocess_image(given, 12, 16),
        lambda: preprocess_video([given, given] if not isinstance(given, list) else given * 2, 12, 16),
        lambda: list(to_uint8_frames(given)),
    ):
        with pytest.raises(ValueError, match=said):
            take()


def test_floats_are_in_one_range_for_all_frames():
    symmetric = np.stack([FLOATS * 2 - 1, FLOATS])  # the second has no negative value, and is in [-1, 1] still
    for video in (symmetric, list(symmetric), torch.from_numpy(symmetric).movedim(-1, 1)):
        pixels = preprocess_video(video, 12, 16)
        np.testing.assert_allclose(pixels[0].movedim(0, -1).numpy(), symmetric, atol=1e-6)
    assert preprocess_image(with_one(1.02), 12, 16).max() == 1


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64, np.complex64, object])
def test_whole_numbers_of_unknown_range_are_refused(dtype):
    pixels = GREY.astype(dtype)
    for take in (lambda: preprocess_image(pixels, 12, 16), lambda: list(to_uint8_frames(pixels))):
        with pytest.raises(ValueError, match="pixels must be uint8, uint16, bool, or floats"):
            take()


def test_bool_is_black_and_white():
    mask = LEVELS > 100
    wanted = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, -1)
    for given in (mask, torch.from_numpy(mask), Image.fromarray(mask)):
        np.testing.assert_array_equal(written(given), wanted)
        np.testing.assert_array_equal(fed(given), wanted)


def test_levels_and_floats_in_one_list_keep_their_own_ranges():
    pixels = preprocess_image([GREY, FLOATS], 12, 16)
    torch.testing.assert_close(pixels[0], pixels[1], atol=0.01, rtol=0)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (3, 0, 4)])
def test_no_pixels_are_refused(shape):
    for take in (lambda: preprocess_image(np.zeros(shape, np.uint8), 8, 8), lambda: written(np.zeros(shape))):
        with pytest.raises(ValueError, match="has no pixels"):
            take()


# ---- transparency ----------------------------------------------------------------------------------------------------

HIDDEN = np.dstack([np.full((12, 16), 200, np.uint8), np.zeros((12, 16, 2), np.uint8), LEVELS])  # red, fading in
ON_PAGE = np.rint(HIDDEN[..., :3] * (LEVELS / 255)[..., None] + 255 * (1 - LEVELS / 255)[..., None]).astype(int)


def palette():
    picture = Image.new("P", (16, 12), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(0, (0, 0, 8, 12))
    picture.info["transparency"] = 0
    return picture


TRANSPARENT = {
    "RGBA": (Image.fromarray(HIDDEN), ON_PAGE),
    "RGBa": (Image.fromarray(HIDDEN).convert("RGBa"), ON_PAGE),
    "LA": (
        Image.fromarray(np.dstack([np.zeros_like(LEVELS), LEVELS])),
        np.repeat(255 - LEVELS[..., None].astype(int), 3, -1),
    ),
    "P": (palette(), np.where(np.arange(16)[None, :, None] < 8, 255, np.array([0, 0, 255])).repeat(12, 0)),
    "PA": (
        palette().convert("PA"),
        np.where(np.arange(16)[None, :, None] < 8, 255, np.array([0, 0, 255])).repeat(12, 0),
    ),
    "array": (HIDDEN, ON_PAGE),
    "float array": (HIDDEN / 255, ON_PAGE),
    "tensor": (torch.from_numpy(HIDDEN).movedim(-1, 0), ON_PAGE),
    "float tensor": (torch.from_numpy(HIDDEN / 255).movedim(-1, 0), ON_PAGE),
    "16 bits": (HIDDEN.astype(np.uint16) * 257, ON_PAGE),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("way", [written, fed])
def test_what_is_transparent_is_white_and_said_once(way, kind, caplog):
    given, wanted = TRANSPARENT[kind]
    with caplog.at_level(logging.WARNING, "filmstrip"):
        np.testing.assert_allclose(way(given).astype(int), wanted, atol=2 if kind == "RGBa" else 1)
    assert [record.getMessage() for record in caplog.records] == [ON_WHITE]
    caplog.clear()
    many = [given] * 3
    for take in (lambda: list(to_uint8_frames(many)), lambda: preprocess_image(many, 6, 8)):
        with caplog.at_level(logging.WARNING, "filmstrip"):
            take()
        assert [record.getMessage() for record in caplog.records] == [ON_WHITE]
        caplog.clear()


def test_it_is_so_wherever_pictures_are_taken(tmp_path):
    picture = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    for name in ("a.png", "a.webp", "a.tif", "a.gif"):
        picture.save(tmp_path / name)
        assert np.asarray(load_image(tmp_path / name)).min() == 255
        assert read_video(tmp_path / name)[0].min() == 255
    picture.save(tmp_path / "many.png", save_all=True, append_images=[Image.new("RGBA", (64, 48), (0, 200, 0, 0))])
    assert read_video(tmp_path / "many.png")[0].min() == 255
    assert np.asarray(load_image(picture)).min() == 255
    assert read_video(export_to_video([picture] * 2, tmp_path / "v.mkv"))[0].min() == 255
    assert np.asarray(contact_sheet([picture])).min() == 255
    pytest.importorskip("cv2")
    assert np.asarray(canny_edges(picture)[0]).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_colour_that_a_file_calls_transparent_is_white(mode, tmp_path):
    picture = Image.new(mode, (16, 12), 0)
    key = (0, 0, 0) if mode == "RGB" else 0
    picture.save(tmp_path / "a.png", transparency=key)
    assert np.asarray(load_image(tmp_path / "a.png")).min() == 255
    picture.save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png")).max() == 0


def test_black_stays_black_in_what_was_a_palette():
    frame = palette()
    frame.putpalette([0, 0, 0, 0, 0, 255])
    frame.info["transparency"] = 0
    converted = frame.convert("RGB")
    np.testing.assert_array_equal(written(converted), np.asarray(converted))


def test_opaque_alpha_says_nothing(caplog):
    with caplog.at_level(logging.WARNING, "filmstrip"):
        np.testing.assert_array_equal(written(Image.fromarray(GREY).convert("RGBA")), GREY)
        np.testing.assert_array_equal(written(np.dstack([GREY, np.full_like(LEVELS, 255)])), GREY)
    assert not caplog.records


def test_four_channels_are_rgba_only_where_nothing_else_can_be_meant():
    assert picture_size(np.zeros((4, 5, 3))) == (4, 5)
    assert picture_size(np.zeros((5, 6, 4))) == (5, 6)
    assert picture_size(torch.zeros(4, 5, 6)) == (5, 6)
    assert picture_size(np.zeros((4, 5, 6))) == (5, 6)
    with pytest.raises(ValueError, match=r"four channels .* must be in"):
        preprocess_image(np.full((5, 6, 4), -0.5), 8, 8)


# ---- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX", "P", "L"])
def test_other_colours_convert(mode):
    picture = Image.fromarray(GREY)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        other = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    else:
        other = picture.convert(mode)
    got = written(other).astype(int)
    assert np.abs(got - GREY.astype(int)).mean() < (20 if mode in ("LAB", "P") else 8), (
        "P has 216 colours, LAB is what Pillow makes of it"
    )
    np.testing.assert_array_equal(fed(other), got)

"""Clips come out as they are shown: at their time, in their shape, upright; the file is believed before its record."""

import json
import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from filmstrip.media import export_to_video, load_video, read_metadata, read_video
from filmstrip.media import metadata as metadata_
from filmstrip.media.facts import FILE_KEY, FileFacts, facts_of
from filmstrip.media.timing import Steady, rate_of
from tests.media.clips import moving_square, psnr


def numbered(count, height=48, width=64):
    """Frames whose brightness is their number."""
    return np.stack(
        [np.full((height, width, 3), 20 + index * 200 // max(count - 1, 1), np.uint8) for index in range(count)]
    )


def numbers(frames, count):
    """Which of `numbered` they are."""
    return np.rint((frames.mean((1, 2, 3)) - 20) * max(count - 1, 1) / 200).astype(int).tolist()


def coded(
    path, frames, times=None, tick=Fraction(1, 1000), rate=None, comment=None, aspect=None, codec=None, **options
):
    """Write frames with FFmpeg alone, at these times in seconds."""
    codec = codec or {".webm": "libvpx-vp9", ".mkv": "ffv1", ".avi": "ffv1"}.get(path.suffix, "libx264")
    with av.open(str(path), "w", options=options) as made:
        stream = made.add_stream(codec, rate=rate or 1 / tick)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if comment is not None:
            made.metadata["comment"] = comment
        if times is not None:
            stream.codec_context.time_base = tick
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)
            if times is not None:
                picture.pts, picture.time_base = round(times[index] / tick), tick
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))
    return path


def told(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ---- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("fps", [Fraction(30000, 1001), 24, 25, 60, 7.5])
def test_an_even_clip_keeps_its_rate_and_every_frame(suffix, fps, tmp_path, caplog):
    times = [index / fps for index in range(90)]
    path = coded(tmp_path / f"clip{suffix}", numbered(90), times, Fraction(1, 90000))
    frames, found = read_video(path)
    assert found == pytest.approx(float(fps), rel=2e-3)
    assert len(frames) == 90 and np.abs(np.array(numbers(frames, 90)) - np.arange(90)).max() <= 1
    assert not told(caplog)


@pytest.mark.parametrize("jitter", [0, 0.004, 0.012])
def test_a_browsers_recording_has_the_rate_of_its_frames_and_not_of_its_clock(jitter, tmp_path, caplog):
    shaken = np.random.default_rng(0).uniform(-jitter, jitter, 60)
    times = [index / 30 + shake for index, shake in enumerate(shaken)]
    path = coded(tmp_path / "clip.webm", numbered(60), [time - times[0] for time in times], live="1")
    with av.open(str(path)) as container:
        assert container.duration is None or container.streams.video[0].guessed_rate > 100, "as browsers write it"
    frames, fps = read_video(path)
    assert fps == pytest.approx(30, rel=0.02)
    assert len(frames) == 60 and not told(caplog)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_motion_keeps_its_time_where_frames_come_unevenly(suffix, tmp_path, caplog):
    # 20 frames a second, a pause of half a second in the middle, and a burst of frames at the end.
    gaps = [0.05] * 20 + [0.5] + [0.05] * 20 + [0.01] * 10
    times = np.concatenate([[0], np.cumsum(gaps)])
    count = len(times)
    path = coded(tmp_path / f"clip{suffix}", numbered(count), times.tolist())
    with caplog.at_level(logging.WARNING, "filmstrip"):
        frames, fps = read_video(path)
    assert fps == pytest.approx(20, rel=0.01)
    assert len(frames) == pytest.approx((times[-1] + 0.05) * 20, abs=1)
    shown = [np.searchsorted(times, (slot + 0.5) / fps, side="right") - 1 for slot in range(len(frames))]
    assert np.abs(np.array(numbers(frames, count)) - shown).max() <= 1
    (sentence,) = told(caplog)
    assert f"clip{suffix} do not come evenly: they are taken at 20 frames a second" in sentence
    assert "9 are repeated and 8 left out" in sentence
    np.testing.assert_array_equal(np.stack(load_video(path, num_frames=25)), frames[:25])


def test_a_long_pause_does_not_fill_the_memory(tmp_path):
    times = [0, 0.04, 0.08, 0.12, 4000, 4000.04]
    frames, fps = read_video(coded(tmp_path / "clip.mkv", numbered(6), times))
    assert len(frames) <= 7
    assert fps < 0.01


def test_a_single_frame_has_no_rate_of_a_clock(tmp_path):
    frames, fps = read_video(coded(tmp_path / "clip.webm", numbered(1), [0.0], live="1"))
    assert len(frames) == 1
    assert fps is None or fps < 240


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_of_uneven_frames_keeps_its_time(suffix, tmp_path, caplog):
    first, *rest = [Image.fromarray(frame) for frame in numbered(6)]
    durations = [100, 100, 100, 300, 100, 200]
    first.save(tmp_path / f"clip{suffix}", save_all=True, append_images=rest, duration=durations)
    with caplog.at_level(logging.WARNING, "filmstrip"):
        frames, fps = read_video(tmp_path / f"clip{suffix}")
    assert (numbers(frames, 6), fps) == ([0, 1, 2, 3, 3, 3, 4, 5, 5], 10)
    assert "do not come evenly" in told(caplog)[0]


def test_rates_by_hand():
    assert rate_of([0, 0.5, 1], [None, Fraction(1000), Fraction(2)], 0.001) == 2
    assert rate_of([0, 0.033, 0.067, 0.1], [], 0.001) == 30
    assert rate_of([0, 0.033, 0.067, 0.1], [Fraction(30000, 1001)], 0.001) == Fraction(30000, 1001)
    assert rate_of([], [Fraction(1000)], 0.001) is None
    assert rate_of([5.0], [Fraction(25)], 0.001) == 25
    assert rate_of([], [], 0) is None
    assert rate_of([0, 1000, 5000, 5001], [], 0.001) >= Fraction(1, 1000)


def test_frames_by_hand():
    def taken(frames, rate=10, last=None):
        return list(Steady(Fraction(rate)).take(frames, last))

    assert taken([(0, "a"), (0.1, "b"), (0.2, "c")]) == ["a", "b", "c"]
    assert taken([(7, "a"), (7.1, "b"), (7.4, "c")]) == ["a", "b", "b", "b", "c"]
    assert taken([(0, "a"), (0.01, "b"), (0.1, "c")]) == ["b", "c"]
    assert taken([(0, "a")], last=0.3) == ["a", "a", "a"]
    assert taken([(None, "a"), (None, "b")]) == ["a", "b"]
    assert taken([(9, "a"), (9.1, "b"), (3, "c"), (3.1, "d")]) == ["a", "b", "c", "d"], "the clock was set back"
    assert taken([]) == []


# ---- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(4, 3), (48, 85)),
        (Fraction(1, 2), (96, 64)),
        (Fraction(1), (48, 64)),
        (Fraction(100), (48, 64)),
        (Fraction(1, 100), (48, 64)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_become_square(suffix, aspect, size, tmp_path):
    path = coded(tmp_path / f"clip{suffix}", moving_square(3), rate=25, aspect=aspect, codec="libx264")
    assert read_video(path)[0].shape[1:3] == size


ONE = 0x10000
ORIENTATIONS = {
    (ONE, 0, 0, ONE): lambda frames: frames,
    (0, ONE, -ONE, 0): lambda frames: np.rot90(frames, -1, (1, 2)),
    (-ONE, 0, 0, -ONE): lambda frames: np.rot90(frames, 2, (1, 2)),
    (0, -ONE, ONE, 0): lambda frames: np.rot90(frames, 1, (1, 2)),
    (-ONE, 0, 0, ONE): lambda frames: frames[:, :, ::-1],
    (ONE, 0, 0, -ONE): lambda frames: frames[:, ::-1],
    (0, ONE, ONE, 0): lambda frames: frames.swapaxes(1, 2),
    (0, -ONE, -ONE, 0): lambda frames: frames.swapaxes(1, 2)[:, ::-1, ::-1],
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_a_clip_is_turned_and_mirrored_as_its_matrix_says(matrix, tmp_path):
    frames = moving_square(3, 32, 64)
    frames[:, -8:, :8] = (10, 200, 40)  # a corner, so that no two orientations look alike
    path = coded(tmp_path / "clip.mp4", frames, rate=25, crf="1")
    data = bytearray(path.read_bytes())
    a, b, c, d = matrix
    place = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    for position, value in enumerate((a, b, 0, c, d, 0)):
        data[place + 4 * position : place + 4 * position + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    assert psnr(read_video(path)[0], ORIENTATIONS[matrix](frames)) > 25


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_still_picture_is_a_clip_of_one_upright_frame(suffix, orientation, tmp_path):
    from filmstrip.media import load_image

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(moving_square(1, 24, 40)[0]).save(tmp_path / f"a{suffix}", exif=exif)
    frames, _ = read_video(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(frames[0], np.asarray(load_image(tmp_path / f"a{suffix}")))
    assert frames.shape[1:3] == ((24, 40) if orientation < 5 else (40, 24))


def test_hidden_colours_of_a_clip_do_not_come_out(tmp_path):
    with av.open(str(tmp_path / "clip.mkv"), "w") as made:
        stream = made.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgra"
        for _ in range(2):
            made.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 4), (9, 9, 9, 0), np.uint8), format="bgra"))
            )
        made.mux(stream.encode(None))
    assert read_video(tmp_path / "clip.mkv")[0].min() == 255


# ---- what the record says --------------------------------------------------------------------------------------------


def copied(source, path, frames, fps):
    """What another program makes of a file of ours: other pixels and times, the same tags."""
    with av.open(str(source)) as container:
        comment = {key.lower(): value for key, value in container.metadata.items()}["comment"]
    return coded(path, frames, [index / fps for index in range(len(frames))], Fraction(1, 90000), comment=comment)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (24, 32), (48, 128), (50, 66), (48, 64)])
def test_a_scaled_copy_is_read_as_it_is(suffix, height, width, tmp_path):
    source = export_to_video(moving_square(5, 47, 63), tmp_path / f"video{suffix}", 12, metadata={"seed": 1})
    path = copied(source, tmp_path / f"copy{suffix}", moving_square(9, height, width), 24)
    frames, fps = read_video(path)
    padded = (height, width) == (48, 64) and suffix == ".mp4"  # as large as ours: nothing can tell
    assert frames.shape == (9, *((47, 63) if padded else (height, width)), 3)
    assert fps == pytest.approx(24, rel=1e-3)
    assert read_metadata(path)["seed"] == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif", ".webp", ""])
@pytest.mark.parametrize("fps", [Fraction(30000, 1001), 8, 12.5])
def test_a_file_of_ours_has_its_own_size_and_rate(suffix, fps, tmp_path):
    path = export_to_video(moving_square(7, 47, 63), tmp_path / f"video{suffix}", fps)
    frames, found = read_video(path)
    assert (frames.shape, found) == ((7, 47, 63, 3), float(fps))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_that_was_made_faster_is_faster(suffix, tmp_path):
    path = export_to_video(moving_square(6), tmp_path / f"video{suffix}", 5)
    with Image.open(path) as picture:
        info = dict(picture.info)
        frames = []
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(picture.convert("RGB"))
    tags = {"xmp": info["xmp"]} if "xmp" in info else {"comment": info["comment"]}
    frames[0].save(tmp_path / f"copy{suffix}", save_all=True, append_images=frames[1:], duration=50, **tags)
    got, fps = read_video(tmp_path / f"copy{suffix}")
    assert (len(got), fps) == (6, 20)


ODD = [
    "x",
    "1/0",
    "-3",
    "0",
    "nan",
    "inf",
    -1,
    0,
    1e400,
    True,
    None,
    [],
    {},
    "1e999",
    "9" * 5000,
    10**400,
    0.5,
    65,
    2**40,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
@pytest.mark.parametrize("name", ["width", "height", "fps", "num_frames", "coded"])
@pytest.mark.parametrize("suffix", [".mkv", ".webp", ""])
def test_odd_facts_in_a_record_do_no_harm(suffix, name, odd, tmp_path, monkeypatch):
    facts = {"width": 64, "height": 48, "fps": "10", "num_frames": 4, "coded": [64, 48], name: odd}
    text = (
        json.dumps({FILE_KEY: facts}, default=str) if odd != 10**400 else json.dumps({FILE_KEY: {**facts, name: 1e300}})
    )
    monkeypatch.setattr(metadata_, "encode", lambda *_: text)
    path = export_to_video(moving_square(4), tmp_path / f"video{suffix}", 10)
    monkeypatch.undo()
    frames, fps = read_video(path)
    assert frames.shape == (4, 48, 64, 3)
    assert fps == pytest.approx(10) or (suffix == "" and name == "fps")


@pytest.mark.parametrize("facts", ["x", 3, None, [], [1], {"coded": [1]}, {"coded": ["a", "b"]}, {"coded": {"a": 1}}])
def test_facts_of_another_form_are_none(facts):
    assert facts_of({FILE_KEY: facts}) == FileFacts()
    assert facts_of(None) == facts_of({}) == FileFacts()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 9, '{"_file": {"fps": "1/0"}}', "\ud800", "9" * 5000, '{"_file": NaN}']
)
def test_odd_text_in_a_file_is_not_ours_or_harmless(text, tmp_path):
    path = coded(tmp_path / "clip.mkv", moving_square(3), rate=10, comment=text.encode(errors="replace").decode())
    assert (len(read_video(path)[0]), read_video(path)[1]) == (3, 10)


def test_an_xmp_packet_that_is_made_to_take_long_does_not():
    import time

    begin = time.monotonic()
    assert metadata_.text_of_xmp(b"<dc:description><rdf:li" * 200_000) is None
    assert time.monotonic() - begin < 1


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_numbers_in_names_are_numbers(tmp_path):
    for index, frame in enumerate(numbered(12)):
        Image.fromarray(frame).save(tmp_path / f"frame_{index + 1}.png")
    assert numbers(read_video(tmp_path)[0], 12) == list(range(12))
    assert numbers(np.stack(load_video(tmp_path, num_frames=11)), 12) == list(range(11))


def test_other_files_in_a_folder_are_left_alone(tmp_path):
    export_to_video(numbered(3), tmp_path / "video", 6, metadata={"seed": 3})
    folder = tmp_path / "video"
    first = (folder / "00000.png").read_bytes()
    for name in (
        "._00000.png",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "notes.txt",
        "video.mp4",
        ".hidden.png",
        "x.eps",
    ):
        (folder / name).write_bytes(b"\x00\x05\x16\x07 no picture")
    (folder / ".00000.png").write_bytes(first)
    (folder / "more.png").mkdir()
    frames, fps = read_video(folder)
    assert (numbers(frames, 3), fps) == ([0, 1, 2], 6)
    assert read_metadata(folder) == {"seed": 3}


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"no picture"])
def test_a_damaged_picture_in_a_folder_is_named(data, tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "1.png")
    (tmp_path / "2.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"2\.jpg can't be read as a picture"):
        read_video(tmp_path)


def test_pictures_of_other_sizes_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"differ in size.*1\.png is 8x8, 2\.png is 9x8"):
        read_video(tmp_path)

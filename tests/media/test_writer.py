"""Every kind of file is written, decoded back, and compared with what went in."""

import signal
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from filmstrip.media import VideoWriter, check_writable, export_to_gif, export_to_video, read_video
from tests.media.clips import SUFFIXES, moving_square, names_in, psnr

LEAST_PSNR = {".mp4": 36, ".mov": 36, ".webm": 36, ".mkv": np.inf, ".gif": 36, ".webp": 33, "": np.inf}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fps", [8, Fraction(30000, 1001), np.float32(12.5)])
def test_a_file_decodes_to_the_frames_that_were_written(suffix, fps, tmp_path):
    frames = moving_square()
    got, got_fps = read_video(export_to_video(frames, tmp_path / f"video{suffix}", fps))
    assert psnr(got, frames) >= LEAST_PSNR[suffix]
    assert got_fps == pytest.approx(float(fps), rel=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("height", "width"), [(33, 47), (32, 47), (33, 48), (1, 1), (2, 3)])
def test_odd_sizes_come_back_whole_and_unscaled(suffix, height, width, tmp_path):
    frames = moving_square(3, height, width)
    got, _ = read_video(export_to_video(frames, tmp_path / f"video{suffix}"))
    assert psnr(got, frames) >= min(LEAST_PSNR[suffix], 24)


@given(height=st.integers(1, 40), width=st.integers(1, 40), block=st.sampled_from([None, 1, 16]))
def test_any_size_is_only_padded(height, width, block, tmp_path_factory):
    frames = moving_square(2, height, width)
    path = export_to_video(frames, tmp_path_factory.mktemp("any") / "video.mp4", macro_block_size=block)
    with av.open(path) as container:
        stream = container.streams.video[0]
        multiple = block if block and block > 1 else 2
        assert (stream.width, stream.height) == (width + -width % multiple, height + -height % multiple)
    assert read_video(path)[0].shape == frames.shape


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".webm", ".mkv", ""])
def test_a_still_video_keeps_every_frame(suffix, tmp_path):
    frames = np.repeat(moving_square(1), 5, 0)
    got, fps = read_video(export_to_video(frames, tmp_path / f"video{suffix}", 7))
    assert got.shape == frames.shape
    assert fps == pytest.approx(7)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (17, 200, 90)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_colours_follow_bt709_in_limited_range(colour, suffix, tmp_path):
    frames = np.broadcast_to(np.array(colour, np.uint8), (3, 32, 32, 3))
    with av.open(export_to_video(frames, tmp_path / f"video{suffix}")) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="yuv420p")
    got = planes[10, 10], planes[32 + 4, 4], planes[32 + 8 + 4, 4]
    red, green, blue = (value / 255 for value in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709, item 3.2
    wanted = 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748
    np.testing.assert_allclose(got, wanted, atol=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_colour_tags_say_bt709(suffix, tmp_path):
    with av.open(export_to_video(moving_square(), tmp_path / f"video{suffix}")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


def test_codecs_are_those_that_browsers_play(tmp_path):
    for suffix, codec in ((".mp4", "h264"), (".mov", "h264"), (".webm", "vp9"), (".mkv", "ffv1")):
        with av.open(export_to_video(moving_square(), tmp_path / f"video{suffix}")) as container:
            assert container.streams.video[0].codec_context.name == codec


def test_mp4_can_be_played_before_it_is_downloaded(tmp_path):
    export_to_video(moving_square(), tmp_path / "video.mp4")
    data = (tmp_path / "video.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_gif_of_few_colours_is_exact(tmp_path):
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    frames[1, :8], frames[2, 8:], frames[3] = (255, 1, 2), (3, 250, 4), (120, 121, 122)
    got, _ = read_video(export_to_gif(frames, tmp_path / "video.gif"))
    np.testing.assert_array_equal(got, frames)


def test_a_gif_repeats_for_ever_and_keeps_its_mean_frame_rate(tmp_path):
    with Image.open(export_to_gif(moving_square(9), tmp_path / "video.gif", 8)) as gif:
        assert (gif.n_frames, gif.info["loop"]) == (9, 0)
        durations = []
        for index in range(gif.n_frames):
            gif.seek(index)
            durations.append(gif.info["duration"])
    assert sum(durations[:8]) == 1000


def test_quality_and_bitrate_change_the_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), np.uint8)

    def size(name: str, **settings: float) -> int:
        return (tmp_path / export_to_video(noise, tmp_path / name, **settings)).stat().st_size

    for suffix in (".mp4", ".webm", ".webp"):
        assert size(f"low{suffix}", quality=1) < size(f"middle{suffix}") < size(f"high{suffix}", quality=9.5)
    for suffix in (".mp4", ".webm"):
        assert size(f"few{suffix}", bitrate=20_000) < size(f"many{suffix}", bitrate=400_000)


def test_the_best_quality_stays_in_a_profile_that_browsers_play(tmp_path):
    with av.open(export_to_video(moving_square(), tmp_path / "video.mp4", quality=10)) as container:
        assert container.streams.video[0].codec_context.profile == "High"


def test_frames_may_come_in_portions(tmp_path):
    frames = moving_square(7)
    with VideoWriter(tmp_path / "video.mkv", 8) as writer:
        writer.write(frames[0])
        writer.write(frames[1:4])
        writer.write([Image.fromarray(frame) for frame in frames[4:]])
        assert names_in(tmp_path) != ["video.mkv"]
    assert writer.num_frames == 7
    np.testing.assert_array_equal(read_video(tmp_path / "video.mkv")[0], frames)
    assert names_in(tmp_path) == ["video.mkv"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_midway_leaves_nothing(suffix, error, tmp_path):
    def stopping():
        yield moving_square(2)
        if error is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        raise error

    with pytest.raises(error):
        export_to_video(stopping(), tmp_path / f"video{suffix}", metadata={"prompt": "half"})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failing_end_leaves_the_old_file(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"video{suffix}"
    if suffix:
        path.write_bytes(b"old")
    before = names_in(tmp_path)

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        export_to_video(moving_square(), path)
    assert names_in(tmp_path) == before
    assert not suffix or path.read_bytes() == b"old"


def test_files_are_replaced_and_empty_folders_filled(tmp_path):
    frames = moving_square()
    (tmp_path / "video.mkv").write_bytes(b"old")
    (tmp_path / "frames").mkdir()
    for name in ("video.mkv", "frames"):
        assert psnr(read_video(export_to_video(frames, tmp_path / name))[0], frames) == np.inf
    assert names_in(tmp_path / "frames") == [f"{index:05d}.png" for index in range(len(frames))]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "name", ["12:30", ".12:30", "file:a", "http:a", "pipe:1", "a%03d:b", "concat:a|b", "-", "a,b:c?d#e"]
)
def test_what_a_file_is_called_is_never_taken_for_an_address(suffix, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = moving_square(3)
    written = export_to_video(frames, f"{name}{suffix}")
    assert names_in(tmp_path)[:1] == [f"{name}{suffix}"]
    assert psnr(read_video(written)[0], frames) >= min(LEAST_PSNR[suffix], 24)


def test_without_a_path_a_temporary_file_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert export_to_video(moving_square()).endswith(".mp4")
    assert export_to_gif(list(moving_square())).endswith(".gif")
    with pytest.raises(ValueError, match="no frames"):
        export_to_video([])
    assert len(names_in(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0}, "fps must be from 0.001"),
        ({"fps": float("nan")}, "fps must be from 0.001"),
        ({"quality": 11}, "quality must be from 0"),
        ({"quality": 5, "bitrate": 1000}, "not both"),
        ({"bitrate": 0}, "bitrate must be positive"),
        ({"macro_block_size": 0}, "macro_block_size must be"),
        ({"output_video_path": "video.mkv", "quality": 5}, "no choice of quality"),
        ({"output_video_path": "video.gif", "bitrate": 5}, "no bitrate"),
        ({"output_video_path": "video.gif", "fps": 60}, "at most 50"),
        ({"output_video_path": "video.mpp4"}, "did you mean .mp4"),
        ({"output_video_path": "video.png"}, "a name without a suffix"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export_to_video(moving_square(), **{"output_video_path": "video.mp4", **arguments})
    assert names_in(tmp_path) == []


def test_frames_of_different_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="frame 2 is 64x50, those before are 64x48"):
        export_to_video([*moving_square(2), moving_square(1, 50)[0]], tmp_path / "video.mp4")
    assert names_in(tmp_path) == []


def test_a_writer_is_used_once(tmp_path):
    writer = VideoWriter(tmp_path / "video.mkv")
    writer.write(moving_square())
    writer.close()
    writer.close()
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.write(moving_square())
    assert names_in(tmp_path) == ["video.mkv"]
    with pytest.raises(ValueError, match="no frame was written"), VideoWriter(tmp_path / "other.mp4"):
        pass


def test_check_writable_makes_folders_and_leaves_nothing_else(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "video.mp4")
    assert names_in(tmp_path / "new" / "folder") == []


def test_check_writable_says_what_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    for name, message in {
        "file/video.mp4": "can't be written",
        "taken.mp4": "is a folder",
        "full": "isn't empty",
        "file": "is a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            check_writable(tmp_path / name)
    check_writable(f"{tmp_path}/v1.5/")  # the slash says that it is a folder
    with pytest.raises(ValueError, match=r"export_to_gif writes \.gif"):
        export_to_gif(moving_square(), tmp_path / "video.mp4")

"""Pictures and videos are read from files, folders and addresses."""

import http.server
import threading
from functools import partial

import numpy as np
import pytest
from PIL import Image

from filmstrip.media import export_to_video, load_image, load_video, read_video
from tests.media.clips import moving_square, psnr


@pytest.fixture
def address(tmp_path):
    """A web server on this machine that shows the test's folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def test_a_picture_is_upright_and_rgb(tmp_path):
    picture = Image.fromarray(moving_square(1, 20, 30)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter, as cameras store portraits
    picture.convert("RGBA").save(tmp_path / "picture.png", exif=exif)
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.open(tmp_path / "picture.png")):
        loaded = load_image(image=source)
        assert (loaded.mode, loaded.size) == ("RGB", (20, 30))
    np.testing.assert_array_equal(np.asarray(loaded), np.rot90(np.asarray(picture), -1))
    assert load_image(picture, convert_method=lambda image: image.convert("L")).mode == "L"


def test_pictures_and_videos_come_from_addresses(tmp_path, address):
    frames = moving_square()
    Image.fromarray(frames[0]).save(tmp_path / "picture.png")
    export_to_video(frames, tmp_path / "video.mkv", 12)
    np.testing.assert_array_equal(np.asarray(load_image(f"{address}/picture.png")), frames[0])
    pictures, fps = load_video(f"{address}/video.mkv", return_fps=True)
    np.testing.assert_array_equal(np.stack(pictures), frames)
    assert fps == 12
    with pytest.raises(ValueError, match=r"lost\.png can't be downloaded: File not found"):
        load_image(f"{address}/lost.png")


@pytest.mark.parametrize("load", [load_image, load_video])
def test_what_cannot_be_read_is_named(load, tmp_path):
    (tmp_path / "text.mp4").write_text("no pixels")
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "lost.png", r"there is no \w+ .*lost\.png"),
        (tmp_path / "text.mp4", r"text\.mp4 can't be read"),
        (tmp_path / "empty", r"empty (can't be read|holds no pictures)"),
        (3, "got int"),
    ):
        with pytest.raises(ValueError, match=message):
            load(source)


def test_a_truncated_picture_is_refused(tmp_path):
    Image.fromarray(moving_square(1, 200, 200)[0]).save(tmp_path / "picture.png")
    data = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="can't be read as a picture"):
        load_image(tmp_path / "picture.png")


def test_a_folder_of_pictures_is_read_in_order(tmp_path):
    frames = moving_square()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index:02d}.png")
    got, fps = read_video(tmp_path)
    np.testing.assert_array_equal(got, frames)
    assert fps is None
    assert len(load_video(tmp_path, convert_method=lambda pictures: pictures[::2])) == 3
    with pytest.raises(ValueError, match="does not record a frame rate"):
        load_video(tmp_path, return_fps=True)
    Image.new("RGB", (3, 3)).save(tmp_path / "99.png")
    with pytest.raises(ValueError, match="differ in size"):
        load_video(tmp_path)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_of_other_programs_keep_their_frame_rate(suffix, tmp_path):
    first, *rest = [Image.fromarray(frame) for frame in moving_square()]
    first.save(tmp_path / f"other{suffix}", save_all=True, append_images=rest, duration=200)
    frames, fps = read_video(tmp_path / f"other{suffix}")
    assert psnr(frames, moving_square()) > 25
    assert fps == 5


def test_a_video_of_a_turned_camera_is_upright(tmp_path):
    frames = moving_square(3, 32, 64)
    path = tmp_path / "video.mp4"
    export_to_video(frames, path)
    # Write a rotation by a quarter clockwise into the track header's matrix (ISO 14496-12, 8.3.2), and undo our tag,
    # which says that the file is 64 wide.
    data = bytearray(
        path.read_bytes().replace(b'"width": 64', b'"width": 32').replace(b'"height": 32', b'"height": 64')
    )
    matrix = data.index(b"tkhd") + 44
    for position, value in enumerate((0, 0x10000, 0, -0x10000, 0, 0)):
        data[matrix + 4 * position : matrix + 4 * position + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    got, _ = read_video(path)
    assert psnr(got, np.rot90(frames, -1, axes=(1, 2))) > 30


def test_the_first_frames_of_a_clip_are_read(tmp_path):
    frames = moving_square(6)
    for name in ("clip.mkv", "clip.webp", "folder"):
        export_to_video(frames, tmp_path / name, 12)
        np.testing.assert_array_equal(
            np.stack(load_video(tmp_path / name, num_frames=2)), load_video(tmp_path / name)[:2]
        )
        with pytest.raises(ValueError, match="has 6 frames, 7 were asked for"):
            load_video(tmp_path / name, num_frames=7)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        load_video(tmp_path / "clip.mkv", num_frames=0)

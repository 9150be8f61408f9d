"""Files of strangers are opened as pictures and clips, and make nothing else be opened or run."""

import ast
import os
import re
import shutil
import socket
import subprocess

import av
import numpy as np
import pytest
from PIL import Image

from filmstrip.media import export_to_video, load_image, load_video, read_metadata, read_video
from filmstrip.media.metadata import read_embedded
from tests.guards.source import package_sources
from tests.media.clips import moving_square, names_in

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{clip}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{clip}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{clip}" width="8" height="8"/></svg>',
    "text": "whatever stands in {clip}\n",
}
SUFFIXES = (".mp4", ".m3u8", ".ffconcat", ".mpd", ".sdp", ".mkv", ".txt", "")


@pytest.fixture
def clip(tmp_path):
    export_to_video(moving_square(), tmp_path / "clip.mp4", metadata={"prompt": "a square"})
    (tmp_path / "clip.json").unlink()
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_list_of_other_files_is_no_video_whatever_it_is_called(kind, suffix, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"list{suffix}"
    path.write_text(PLAYLISTS[kind].format(clip=clip.name))
    for read in (read_video, load_video):
        with pytest.raises(ValueError, match="can't be read as a video"):
            read(path)
    with pytest.raises(ValueError, match="carries no metadata"):
        read_metadata(path)
    assert read_embedded(path) is None


@pytest.mark.parametrize("name", ["%03d.png", "*.png", "concat:000.png|001.png", "subfile,,start,0,end,0,,:clip.mp4"])
def test_a_pattern_of_names_is_a_name(name, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        Image.fromarray(moving_square()[index]).save(f"{index:03d}.png")
    with pytest.raises(ValueError, match="there is no video"):
        read_video(name)
    shutil.copy(clip, "clip%03d: a.mp4")
    assert len(read_video("clip%03d: a.mp4")[0]) == 6, "and such a name may be that of a file"


@pytest.mark.parametrize("name", ["script.eps", "script.png", "script.jpg", "script"])
def test_no_program_is_run_for_a_picture(name, tmp_path, monkeypatch):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "frames").mkdir()
    for path in (tmp_path / name, tmp_path / "frames" / name):
        path.write_bytes(script)
    ran = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: ran.append(args) or pytest.fail("a program is run"))
    for read in (load_image, load_video, read_video):
        with pytest.raises(ValueError, match="can't be read"):
            read(tmp_path / name)
    with pytest.raises(ValueError, match=r"can't be read|holds no pictures"):
        load_video(tmp_path / "frames")
    with pytest.raises(ValueError, match="carries no metadata"):
        read_metadata(tmp_path / name)
    assert not ran


@pytest.fixture(params=["pipe", "socket", "device"])
def no_file(request, tmp_path, monkeypatch):
    """Something at a path that is no file, and what it is called."""
    monkeypatch.chdir(tmp_path)
    if request.param == "device":
        return "/dev/zero", "a device"
    if request.param == "pipe":
        os.mkfifo("odd.png")
        return "odd.png", "a named pipe"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("odd.png")
    return "odd.png", "a socket"


@pytest.mark.parametrize("read", [load_image, load_video, read_video, read_metadata])
def test_pipes_sockets_and_devices_are_not_opened(read, no_file):
    name, kind = no_file
    with pytest.raises(ValueError, match=f"{name} is {kind}, and a .* is read from files only"):
        read(name)


def test_a_pipe_is_found_wherever_it_lies(tmp_path):
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is a named pipe"):
        read_video(tmp_path / "frames")
    os.mkfifo(tmp_path / "clip.json")
    export_to_video(moving_square(), tmp_path / "clip.mp4", metadata={"seed": 1})
    assert read_metadata(tmp_path / "clip.mp4") == {"seed": 1}
    with pytest.raises(ValueError, match="is a named pipe"):
        read_metadata(tmp_path / "clip.json")
    os.mkfifo(tmp_path / "kept.latents.safetensors")
    from filmstrip.resume import file

    with pytest.raises(ValueError, match="is a named pipe"):
        file.read(tmp_path / "kept.latents.safetensors")
    assert names_in(tmp_path) == ["clip.json", "clip.mp4", "frames", "kept.latents.safetensors"]


def test_a_kept_picture_is_a_picture(tmp_path):
    import torch

    from filmstrip.resume import file

    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="can't be read as a picture"):
        file._unpacked({"picture": "p"}, {"p": torch.frombuffer(bytearray(script), dtype=torch.uint8)})


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        (".avi", "mpeg4", "yuv420p"),
        (".ts", "libx264", "yuv420p"),
        (".mpg", "mpeg2video", "yuv420p"),
        (".flv", "flv", "yuv420p"),
        (".ogv", "libtheora", "yuv420p"),
        (".y4m", "rawvideo", "yuv420p"),
        (".mxf", "mpeg2video", "yuv420p"),
        (".wmv", "wmv2", "yuv420p"),
    ],
)
def test_other_containers_stay_readable(suffix, codec, pixels, tmp_path):
    try:
        with av.open(str(tmp_path / f"clip{suffix}"), "w", format="yuv4mpegpipe" if suffix == ".y4m" else None) as made:
            stream = made.add_stream("wrapped_avframe" if suffix == ".y4m" else codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for frame in moving_square():
                made.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            made.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg does not write it: {error}")
    frames, fps = read_video(tmp_path / f"clip{suffix}")
    assert (frames.shape, fps) == ((6, 48, 64, 3), 25)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.bmp", "a.ppm", "a.png", "a.webp", "a.gif"])
def test_a_picture_is_known_by_what_it_is(name, tmp_path):
    Image.fromarray(moving_square(1)[0]).save(tmp_path / name)
    shutil.copy(tmp_path / name, tmp_path / "clip.mp4")
    for path in (name, "clip.mp4"):
        assert load_image(tmp_path / path).size == (64, 48)
        assert read_video(tmp_path / path)[0].shape == (1, 48, 64, 3)


def test_a_damaged_picture_of_any_kind_is_a_sentence(tmp_path):
    whole = {}
    for suffix in (".png", ".jpg", ".webp", ".gif", ".tif", ".bmp", ".ppm"):
        path = tmp_path / f"picture{suffix}"
        Image.fromarray(moving_square(1)[0]).save(path)
        whole[suffix] = path.read_bytes()
    random = np.random.default_rng(0)
    for suffix, data in whole.items():
        path = tmp_path / f"damaged{suffix}"
        for _ in range(40):
            damaged = bytearray(data[: random.integers(1, len(data))])
            for place in random.integers(0, len(damaged), 8):
                damaged[place] = random.integers(256)
            path.write_bytes(damaged)
            for read in (load_image, read_video):
                try:
                    read(path)
                except ValueError as error:
                    assert path.name in str(error)


def opened_elsewhere(sources):
    """Calls that open a picture or a clip to read it, outside of the one file that may."""
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or source.module == "filmstrip.media.opening":
                continue
            called = ast.unparse(node.func)
            writes = any(isinstance(one, ast.Constant) and one.value == "w" for one in node.args)
            if re.search(r"(^|\.)(Image|av|_av)\.open$", called) and not writes:
                yield f"{source.module}: {called}"


def test_pictures_and_clips_are_opened_in_one_place():
    sources = list(package_sources())
    assert not list(opened_elsewhere(sources))
    from tests.guards.source import Source

    assert list(opened_elsewhere([Source("filmstrip.x", "import av\nwith av.open(path) as c: pass")]))


def test_ffmpeg_is_told_to_open_nothing_else(clip, monkeypatch):
    """Beside the list of formats, for what a format of the list may learn to do."""
    seen = []
    opened = av.open

    def watched(*args, **kwargs):
        seen.append(kwargs["options"])
        return opened(*args, **kwargs)

    monkeypatch.setattr(av, "open", watched)
    read_video(clip)
    read_embedded(clip)
    assert seen and all(options["protocol_whitelist"] == "file" for options in seen)

"""What a video was made with is found again, in the file or beside it."""

import json
import logging

import pytest

from filmstrip.media import export_to_video, read_metadata
from tests.media.clips import SUFFIXES, moving_square, names_in

METADATA = {
    "prompt": 'una estrella ★ <b>"red"</b> & blå, 星が回る 🌟\nsecond line',
    "seed": 2**63,
    "settings": {"guidance_scale": 3.5, "size": [64, 48], "callback": None, "tiled": True},
    "versions": {"filmstrip": "0.1.0"},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_lie_in_the_file_and_beside_it(suffix, tmp_path):
    path = tmp_path / f"video{suffix}"
    export_to_video(moving_square(), path, metadata=METADATA)
    beside = tmp_path / "video.json"
    assert {key: json.loads(beside.read_text("utf-8"))[key] for key in METADATA} == METADATA
    assert read_metadata(beside) == METADATA
    beside.unlink()
    assert read_metadata(path) == METADATA


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_long_metadata_are_not_cut(suffix, tmp_path):
    long = {"prompt": "é" * 70_000}
    path = export_to_video(moving_square(2), tmp_path / f"video{suffix}", metadata=long)
    (tmp_path / "video.json").unlink()
    assert read_metadata(path) == long


def test_the_file_beside_serves_where_the_container_was_stripped(tmp_path):
    path = tmp_path / "video.mp4"
    export_to_video(moving_square(), path, metadata=METADATA)
    path.write_bytes(b"some tool wrote this anew")
    assert read_metadata(path) == METADATA


def test_values_without_a_json_form_become_text(tmp_path):
    path = export_to_video(moving_square(), tmp_path / "video.mp4", metadata={"folder": tmp_path})
    assert read_metadata(path) == {"folder": str(tmp_path)}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_without_metadata_has_nothing_beside_it_and_says_so(suffix, tmp_path):
    path = tmp_path / f"video{suffix}"
    export_to_video(moving_square(), path)
    assert names_in(tmp_path) == [path.name]
    with pytest.raises(ValueError, match="carries no metadata"):
        read_metadata(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*lost\.mp4"):
        read_metadata(tmp_path / "lost.mp4")


def test_a_json_file_of_someone_else_is_kept(tmp_path, caplog):
    (tmp_path / "video.json").write_text('{"mine": 1}')
    with caplog.at_level(logging.WARNING):
        export_to_video(moving_square(), tmp_path / "video.mp4", metadata=METADATA)
    assert "not written by filmstrip" in caplog.text
    assert (tmp_path / "video.json").read_text() == '{"mine": 1}'
    assert read_metadata(tmp_path / "video.mp4") == METADATA


def test_a_second_video_replaces_the_json_file_of_the_first(tmp_path):
    for seed in (1, 2):
        export_to_video(moving_square(), tmp_path / "video.mp4", metadata={"seed": seed})
    assert read_metadata(tmp_path / "video.json") == {"seed": 2}
    assert names_in(tmp_path) == ["video.json", "video.mp4"]

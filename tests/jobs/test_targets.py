"""Names of files."""

from pathlib import Path

import pytest

from filmstrip.jobs.targets import choose_targets, sheet_path, slug, unused


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red star, spinning!", "a-red-star-spinning"),
        ("一颗红色的星星", "一颗红色的星星"),
        ("?!", "video"),
        ("../../etc", "etc"),
        ("word " * 40, "-".join(["word"] * 9)),
        ("x" * 300, "x" * 48),
    ],
)
def test_a_prompt_becomes_a_file_name(text, name):
    assert slug(text) == name


def test_several_videos_are_numbered():
    assert choose_targets(Path("a/out.mp4"), "p", 1, 2) == [Path("a/out-1.mp4"), Path("a/out-2.mp4")]
    assert choose_targets(None, "p", 1, 2) == [Path("outputs/p-1.mp4"), Path("outputs/p-2.mp4")]


def test_an_unused_name_is_found(tmp_path):
    for name in ("out.mp4", "out-2.mp4"):
        (tmp_path / name).touch()
    assert unused(tmp_path / "out.mp4") == tmp_path / "out-3.mp4"


def test_the_sheet_of_a_folder_lies_beside_it():
    assert sheet_path(Path("a/out.mp4")) == Path("a/out.png")
    assert sheet_path(Path("a/frames")) == Path("a/frames.png")

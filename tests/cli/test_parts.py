"""The command's own small parts: values on a command line, names of files, errors, progress."""

from pathlib import Path

import pytest

from filmstrip import LTXConditionPipeline, LTXPipeline
from filmstrip.cli.calls import Call
from filmstrip.cli.commands import describe
from filmstrip.cli.plans import parse_size
from filmstrip.cli.progress import Bars, Lines
from filmstrip.cli.targets import choose_targets, sheet_path, slug, unused


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("num_inference_steps=30", 30),
        ("guidance-scale=2", 2),
        ("negative_prompt=blurry, dark", "blurry, dark"),
        ("negative_prompt=5", "5"),
        ("negative_prompt=a=b", "a=b"),
        ("timesteps=[1000, 500.5]", [1000, 500.5]),
        ("sequential_guidance=true", True),
        ("decode_noise_scale=null", None),
    ],
)
def test_a_value_is_json_or_else_text(assignment, value):
    parsed = Call(LTXPipeline).parse(assignment)[1]
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("assignment", ["num_frames=1.5", "num_frames=true", "timesteps=[1, x]", "timesteps=[true]"])
def test_a_value_of_another_type_is_refused(assignment):
    with pytest.raises(ValueError, match=r"--set (num_frames|timesteps) takes"):
        Call(LTXPipeline).parse(assignment)


@pytest.mark.parametrize("name", ["latents", "generator", "image", "attention_kwargs", "output_type"])
def test_what_no_text_can_say_is_not_set(name):
    call = Call(LTXConditionPipeline)
    assert name in call
    assert name not in call.settable


def test_each_settable_argument_is_one_of_the_call():
    call = Call(LTXPipeline)
    assert {"guidance_rescale", "max_sequence_length", "timesteps", "decode_timestep"} <= set(call.settable)


@pytest.mark.parametrize(("text", "size"), [("704x512", (704, 512)), (" 64 X 32 ", (64, 32))])
def test_a_size_is_width_by_height(text, size):
    assert parse_size(text) == size


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


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("a size\nis wrong"), 2, "a size is wrong"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "a.png: No such file or directory."),
        (
            OSError(28, "No space left on device"),
            1,
            "OSError: [Errno 28] No space left on device (--debug shows where)",
        ),
        (FloatingPointError("The vae gave NaNs."), 1, "The vae gave NaNs."),
        (RuntimeError(""), 1, "RuntimeError: no more is known (--debug shows where)"),
    ],
)
def test_an_error_is_one_line_and_a_status(error, status, said):
    assert describe(error) == (status, said)


def test_lines_tell_a_long_stage_in_parts(capsys):
    lines = Lines()
    lines.begin("video 1 of 2: ")
    for step in range(1, 101):
        lines.update("denoise", step, 100, step * 1.0)
    assert capsys.readouterr().err.splitlines() == [
        "video 1 of 2: denoise 25/100: 25.0 s, 1 min 15 s left",
        "video 1 of 2: denoise 50/100: 50.0 s, 50.0 s left",
        "video 1 of 2: denoise 75/100: 1 min 15 s, 25.0 s left",
        "video 1 of 2: denoise 100/100: 1 min 40 s",
    ]


def test_bars_show_each_stage_and_the_next():
    bars = Bars()
    with bars:
        bars.update("encode", 0, 1, 0.0)
        assert [task.total for task in bars._display.tasks] == [None]
        bars.update("encode", 1, 1, 0.1)
        bars.update("denoise", 1, 4, 0.2)
        assert [task.description for task in bars._display.tasks] == ["encode", "denoise"]
        assert [(task.completed, task.total) for task in bars._display.tasks] == [(1, 1), (1, 4)]

"""The command's own small parts: errors, progress."""

import pytest

from filmstrip.cli.commands import status_of
from filmstrip.cli.progress import Lines, Notes


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
    assert status_of(error) == (status, said)


def test_lines_tell_a_long_stage_in_parts(capsys):
    lines = Lines(Notes(is_quiet=False))
    lines.begin("video 1 of 2: ")
    for step in range(1, 101):
        lines.update("denoise", step, 100, step * 1.0)
    assert capsys.readouterr().err.splitlines() == [
        "video 1 of 2: denoise 25/100: 25.0 s, 1 min 15 s left",
        "video 1 of 2: denoise 50/100: 50.0 s, 50.0 s left",
        "video 1 of 2: denoise 75/100: 1 min 15 s, 25.0 s left",
        "video 1 of 2: denoise 100/100: 1 min 40 s",
    ]

"""What a user's type checker knows of the public names."""

import getpass
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from filmstrip.registry import PUBLIC
from tests.guards.source import ROOT

pytest.importorskip("mypy", reason="mypy is not installed; it comes with the extra `test`")

SAMPLE = """\
import filmstrip
from filmstrip import DDIMScheduler, LTXPipeline, export_to_video, load_image
from filmstrip.utils import load_video

reveal_type(LTXPipeline.from_pretrained("shapes"))
reveal_type(filmstrip.Pipeline.from_pretrained("shapes"))
reveal_type(DDIMScheduler().start)
reveal_type(export_to_video)
reveal_type(load_image("a.png"))
reveal_type(load_video)
reveal_type(filmstrip.__version__)
filmstrip.CogVideoxPipeline
filmstrip.LTXPipeline.from_pretrained(5)
export_to_video([], fps="8")
pipe = LTXPipeline.from_pretrained("shapes")
reveal_type(pipe("a star", num_frames=9, guidance_scale=None).frames)
reveal_type(pipe)
pipe(prompt="a star", num_frame=9)
pipe(prompt="a star", num_frames="nine")
pipe(["a", "b"], "dull", 64, 96, generator=None, latents=[1])
filmstrip.CogVideoXImageToVideoPipeline.from_pretrained("x")(load_image("a.png"), "a boat", strength=0.5)
filmstrip.DiffusionPipeline.from_pretrained("x")("a boat", anything=1)
filmstrip.LMSDiscreteScheduler(500, beta_end=0.01, use_karras_sigmas=True)
filmstrip.LMSDiscreteScheduler(beta_ends=0.01)
filmstrip.DDIMScheduler(timestep_spacing="odd")
"""
CACHE = Path(tempfile.gettempdir()) / f"filmstrip-mypy-{getpass.getuser()}"  # the first run reads all of torch
KNOWN = {
    5: "filmstrip.models.ltx.pipeline_text.LTXPipeline",
    6: "filmstrip.assembly.pipeline.Pipeline",
    7: "Run",
    8: "def (",
    9: "PIL.Image.Image",
    10: "def (",
    11: '"str"',
    12: 'maybe "CogVideoXPipeline"',
    13: "incompatible type",
    14: "incompatible type",
    16: '"Any"',
    17: "LTXPipeline",
    18: 'did you mean "num_frames"',
    19: 'expected "int | None"',
    20: "incompatible type",
    21: "Unexpected keyword argument",
    24: "Unexpected keyword argument",
    25: "incompatible type",
}


RIGHT = {15, 22, 23}
# As to one who has installed the package: its own errors are not told.
SETTINGS = """\
[mypy]
strict = true
mypy_path = {sources}
[mypy-filmstrip.*]
follow_imports = silent
"""


def checked(text: str, folder: Path, cache: Path) -> dict[int, str]:
    """From the number of a line, what `mypy --strict` says about it to one who has installed the package."""
    (folder / "sample.py").write_text(text, encoding="utf-8")
    (folder / "mypy.ini").write_text(SETTINGS.format(sources=ROOT / "src"), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(cache), "sample.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    said: dict[int, str] = {}
    for line in done.stdout.splitlines():
        place, _, sentence = line.partition(": ")
        file, _, number = place.partition(":")
        if number.isdigit():
            assert file == "sample.py", line
            said[int(number)] = said.get(int(number), "") + sentence
    return said


def test_a_users_type_checker_knows_the_public_names(tmp_path):
    names = "".join(f"reveal_type(filmstrip.{name})\n" for name in sorted(PUBLIC))
    said = checked(SAMPLE + names, tmp_path, CACHE)
    for line, words in KNOWN.items():
        assert words in said[line], (line, said)
    assert not RIGHT & said.keys(), "a call that is right is no error"
    first = SAMPLE.count("\n") + 1
    vague = [name for line, name in enumerate(sorted(PUBLIC), first) if '"Any"' in said[line] or "error" in said[line]]
    assert not vague

"""No option of the command, whatever is given for it, ends in a traceback or hangs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from filmstrip.cli.app import app
from tests.cli.tiny_checkpoint import tiny_pipeline
from tests.fuzzing.mutations import Figures, tries, unclear

VALUES = [
    *["", "0", "-1", "1.5", "nan", "inf", "1e309", "true", "null", "[]", "{}", "é", "a=b", "x" * 5000, "../.."],
    *["a/b/c", "\n", str(10**9), str(10**18), "9" * 5000, "[" * 3000, "64x64", f"{10**9}x{10**9}", f"{10**6}x64"],
    *["8GB", "0GB", f"{10**30}GB", "cpu", "cuda:99", "meta", "float32", "org/none", "file.txt"],
]
OPTIONS = [
    *["--num-frames", "--seconds", "--fps", "--size", "--steps", "--guidance-scale", "--seed", "--num-videos", "-o"],
    *["--device", "--memory", "--dtype", "--quantize", "--scheduler", "--checkpoint-every", "--image", "--video"],
    *["--component", "--negative-prompt", "--model"],
]
NAMES = ["max_sequence_length", "num_inference_steps", "timesteps", "guidance_rescale", "decode_timestep", ""]


@pytest.fixture(scope="session")
def outline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzing") / "outline"
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_options_of_generate(outline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    value = st.sampled_from(VALUES)
    given_option = st.tuples(st.sampled_from(OPTIONS), value)
    given_setting = st.tuples(st.just("--set"), st.builds("{}={}".format, st.sampled_from(NAMES), value))

    figures = Figures()

    @tries(70)
    @given(st.lists(st.one_of(given_option, given_setting), min_size=1, max_size=2))
    def check(pairs):
        figures.tried += 1
        words = [word for pair in pairs for word in pair]
        small = ["--model", str(outline), "--size", "64x64", "--num-frames", "9", "--device", "cpu"]
        usual = [word for i in range(0, 8, 2) if small[i] not in words for word in small[i : i + 2]]
        result = runner.invoke(app, ["generate", "a star", "--dry-run", *usual, *words])
        if result.exit_code == 0:
            return
        sentence = result.stderr.splitlines()[-1] if result.stderr else ""
        figures.refused += 1
        if result.exit_code != 2 or not sentence.startswith("Error: "):
            figures.add("traceback", f"{sentence} {result.exception!r}", words)
        elif wrong := unclear(sentence, ("",)):
            figures.add("unclear", f"{wrong}: {sentence}", words)

    check()
    figures.settle()

"""The names of commands and options, and the weight of asking for help."""

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command

from filmstrip.cli.app import app

COMMON = {"--debug", "--help", "-h"}
OPTIONS = {
    "generate": {
        "prompt",
        *("--output", "-o", "--model", "-m", "--image", "--video", "--negative-prompt", "--num-frames", "--seconds"),
        *("--fps", "--size", "--steps", "--guidance-scale", "--seed", "--num-videos", "--device", "--dtype"),
        *("--control-video", "--edges", "--fit", "--component", "--checkpoint-every", "--memory", "--quantize"),
        *("--scheduler", "--set", "--dry-run", "--json", "--contact-sheet", "--overwrite", "--quiet", "-q"),
        *("--no-metadata", "--no-prompt", "--paths", "--revision", "--then", "--then-size", "--then-strength"),
    },
    "decode": {"file", "--output", "-o", "--device", "--fetch", "--overwrite", "--json", "--quiet", "-q"},
    "show": {"file", "--json"},
    "inspect": {
        *("model", "--revision", "--memory", "--device", "--size", "--num-frames", "--dtype", "--quantize"),
        *("--quiet", "-q", "--json"),
    },
    "models": {"--json"},
    "env": {"--json"},
}
OPTIONS["rerun"] = OPTIONS["generate"] - {"prompt"} | {"file", "--prompt", "--fetch"}
# What a person waits for when asking for help.
HEAVY = {"torch", "transformers", "av", "numpy", "PIL", "huggingface_hub"}


def names_of(command):
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found | {"--help", "-h"}


def test_the_options_are_these():
    commands = get_command(app).commands
    assert {name: names_of(command) for name, command in commands.items()} == {
        name: options | COMMON for name, options in OPTIONS.items()
    }
    assert names_of(get_command(app)) == {"--version", "--help", "-h"}


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"], ["--version"], ["models"], ["generat"]])
def test_help_loads_no_heavy_library(words):
    code = (
        "import json, sys; from filmstrip.cli import main; main(json.loads(sys.argv[1]));"
        "sys.stderr.write('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_somebody_wants_otherwise(given, kept):
    code = "import os; from filmstrip.cli import main; main(['--version']); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == kept


def test_without_a_command_the_help_is_shown(filmstrip):
    result = filmstrip()
    assert result.exit_code == 0
    assert "generate" in result.stdout


def test_the_version_is_the_packages(filmstrip):
    import filmstrip as package

    assert filmstrip("--version").stdout == f"filmstrip {package.__version__}\n"


@pytest.mark.parametrize(("typo", "meant"), [("generat", "generate"), ("insepct", "inspect"), ("re-run", "rerun")])
def test_a_typo_in_a_command_gets_a_suggestion(filmstrip, typo, meant):
    result = filmstrip(typo)
    assert result.exit_code == 2
    assert meant in result.stderr

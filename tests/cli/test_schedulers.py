"""Schedulers as the command calls them."""

import json
from pathlib import Path

import pytest

import filmstrip as package
from filmstrip.jobs.components import find_scheduler, short_names
from tests.cli.tiny_checkpoint import SMALL, tiny_pipeline

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-singlestep": "DPMSolverSinglestepScheduler",
    "edm-dpm++": "EDMDPMSolverMultistepScheduler",
    "edm-euler": "EDMEulerScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "flow-match-euler": "FlowMatchEulerDiscreteScheduler",
    "flow-match-heun": "FlowMatchHeunDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-ancestral": "KDPM2AncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "sa-solver": "SASolverScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
    "cogvideox-ddim": "CogVideoXDDIMScheduler",
    "cogvideox-dpm": "CogVideoXDPMScheduler",
}


def test_short_names_follow_from_the_classes():
    assert EXPECTED.items() <= short_names().items()
    assert len(short_names()) == len(set(short_names().values()))
    assert all(find_scheduler(name) is getattr(package, known) for name, known in EXPECTED.items())
    assert find_scheduler("UniPC") is find_scheduler("UniPCMultistepScheduler") is package.UniPCMultistepScheduler
    assert find_scheduler("Euler_Ancestral") is package.EulerAncestralDiscreteScheduler


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dpm+", "'dpm++'"), ("uni-pc", "'unipc'"), ("FlowMatchEulerScheduler", "'FlowMatchEulerDiscreteScheduler'")],
)
def test_an_unknown_name_is_answered_with_the_short_ones(name, hint):
    with pytest.raises(ValueError, match=r"must be one of .*ddim, .*dpm\+\+, .*, or a class, got") as caught:
        find_scheduler(name)
    assert hint in str(caught.value)


@pytest.fixture(scope="module")
def outline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ltx")
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_a_dry_run_shows_the_scheduler_and_refuses_one_that_does_not_fit(filmstrip, outline):
    words = ("generate", "a", "--model", outline, "--dry-run", *SMALL)
    assert "FlowMatchEulerDiscreteScheduler" in filmstrip(*words).stdout
    content = json.loads(filmstrip(*words, "--scheduler", "dpm++", "--json").stdout)
    assert content["scheduler"] == "DPMSolverMultistepScheduler"
    refused = filmstrip(*words, "--scheduler", "euler")
    assert refused.exit_code != 0
    assert "EulerDiscreteScheduler knows no flows" in " ".join(refused.stderr.split())


def test_a_video_is_made_again_with_the_scheduler_that_it_was_made_with(filmstrip, outline):
    words = ("--model", outline, "--scheduler", "unipc", "--seed", "1", *SMALL)
    result = filmstrip("generate", "a", "-o", "a.mkv", "--json", *words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["scheduler"] == "UniPCMultistepScheduler"
    again = json.loads(filmstrip("rerun", "a.mkv", "--dry-run", "--json").stdout)
    assert again["scheduler"] == "UniPCMultistepScheduler"


@pytest.mark.parametrize("guide", ["guide.md", "guide.zh.md"])
def test_the_guides_list_all_short_names(guide):
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    assert [name for name in short_names() if f"`{name}`" not in text] == []

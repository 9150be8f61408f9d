"""Fitting as the guide shows it, and the sizes that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from filmstrip import LTXPipeline
from filmstrip.devices import free_memory
from filmstrip.fitting.plan import Plan, apply, memory_of, set_back
from filmstrip.fitting.search import Choice
from filmstrip.memory.coding import decoding_ways

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["guide.md", "guide.zh.md"])
def test_the_guide_is_true(page, capsys):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [snippet] = [one for one in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "pipe.fit(" in one]
    found = {}
    exec(snippet.replace('spinning", ', 'spinning", num_inference_steps=1, '), found)

    assert len(found["video"]) == 17
    assert found["plan"].peak <= 200_000_000
    assert "decode" in capsys.readouterr().out


def test_without_a_size_it_is_what_is_free():
    cpu = torch.device("cpu")
    free = free_memory(cpu)
    assert free > 2**20
    for size in (None, "free"):
        assert memory_of(size, cpu) == pytest.approx(free, rel=0.5)
    assert memory_of("1GiB", cpu) == 2**30


def test_every_choice_is_carried_out_and_taken_back():
    pipe = LTXPipeline.from_pretrained("shapes")
    way = decoding_ways(pipe.vae)[-1]
    choices = {"weights": torch.float32, "residency": None, "guidance": True, "feed-forward": 64, "decoding": way}
    plan = Plan(1, "cpu", tuple(Choice(kind, value, "") for kind, value in choices.items()), {"decode": 1}, {})
    before = dict(vars(pipe.vae))
    chunks = [module for module in pipe.transformer.modules() if hasattr(module, "chunking")]

    apply(plan, pipe)

    assert {one.dtype for one in pipe.transformer.parameters()} == {torch.float32}
    assert way.is_set(pipe.vae)
    assert chunks
    assert all(module.chunking == (64, 1) for module in chunks)
    assert pipe.request(prompt="a red star").arguments.sequential_guidance is True

    set_back(pipe)

    assert vars(pipe.vae) == before
    assert not any(module.chunking for module in chunks)
    assert not pipe.request(prompt="a red star").arguments.sequential_guidance


def test_a_plan_is_not_saved_with_the_checkpoint(tmp_path):
    pipe = LTXPipeline.from_pretrained("shapes")
    apply(Plan(1, "cpu", (Choice("guidance", True, ""),), {"decode": 1}, {}), pipe)
    assert pipe.request(prompt="a red star").arguments.sequential_guidance is True
    pipe.save_pretrained(tmp_path)
    assert "sequential_guidance" not in (tmp_path / "model_index.json").read_text()


def test_chunks_of_the_users_own_stay():
    pipe = LTXPipeline.from_pretrained("shapes")
    pipe.transformer.enable_forward_chunking(16, dim=1)
    for memory in ("1GB", "45MB"):
        pipe.fit(memory, device="cpu", is_quiet=True, num_frames=17)
        assert {one.chunking for one in pipe.transformer.modules() if hasattr(one, "chunking")} == {(16, 1)}

"""Fitting as the guide shows it, and the sizes that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from filmstrip.devices import free_memory
from filmstrip.generation.fitting import memory_of

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

"""The search for the quickest way that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from filmstrip.memory.planner import Alternatives, Choice, beside, cheapest, resident_bytes, smallest
from filmstrip.memory.residency import Grain

STAGES = ("encode", "decode")
costs = st.floats(0, 100)
ways = st.lists(st.tuples(costs, st.integers(0, 1000)), min_size=1, max_size=4)


def choices(rows, kind):
    return [(Choice(kind, need, f"{kind} {index}", cost),) for index, (cost, need) in enumerate(rows)]


@st.composite
def searches(draw):
    alternatives = Alternatives(choices(draw(ways), "whole"), {stage: choices(draw(ways), stage) for stage in STAGES})
    return alternatives, lambda stage, whole, own: whole[0].value + own[0].value


@given(searches(), st.integers(0, 2500), st.integers(0, 500))
def test_a_plan_fits_and_more_memory_never_gives_a_worse_one(search, memory, more):
    alternatives, need = search
    found, with_more = cheapest(alternatives, need, memory), cheapest(alternatives, need, memory + more)
    if found is None:
        assert smallest(alternatives, need).peak > memory
        return
    assert found.peak <= memory
    assert with_more is not None
    assert with_more.cost <= found.cost


@given(searches(), st.integers(0, 2500))
def test_no_other_choices_that_fit_cost_less(search, memory):
    alternatives, need = search
    best = min(
        (
            whole[0].cost + first[0].cost + second[0].cost
            for whole in alternatives.whole
            for first in alternatives.by_stage["encode"]
            for second in alternatives.by_stage["decode"]
            if max(need("encode", whole, first), need("decode", whole, second)) <= memory
        ),
        default=None,
    )
    found = cheapest(alternatives, need, memory)
    assert best == (None if found is None else pytest.approx(found.cost))


@given(searches())
def test_the_smallest_plan_fits_where_any_does(search):
    alternatives, need = search
    least = smallest(alternatives, need)
    assert cheapest(alternatives, need, least.peak) is not None
    assert cheapest(alternatives, need, least.peak - 1) is None


def test_what_is_not_asked_is_not_measured():
    asked = []

    def need(stage, whole, own):
        asked.append((stage, own[0].said))
        return 10

    cheapest(
        Alternatives(choices([(0, 0)], "whole"), {"decode": choices([(0, 0), (1, 0), (2, 0)], "decode")}), need, 10
    )

    assert ("decode", "decode 2") not in asked


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(10, 10, bias=False)  # 400 bytes
        self.blocks = nn.ModuleList([nn.Linear(10, size, bias=False) for size in (10, 20, 5)])  # 400, 800 and 200


@pytest.mark.parametrize(
    ("grain", "streamed", "expected"),
    [
        (None, False, 1800),
        (Grain("components"), False, 1800),
        (Grain("blocks"), False, 400 + 800),
        (Grain("blocks"), True, 400 + 800 + 400),
        (Grain("blocks", 2), False, 400 + 1200),
        (Grain("leaves"), False, 800 + 400),
    ],
)
def test_what_of_a_network_is_on_the_device_at_a_time(grain, streamed, expected):
    assert resident_bytes(Blocks(), grain, streamed=streamed) == expected


def test_tied_weights_are_there_once():
    network = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    network[1].weight = network[0].weight
    assert resident_bytes(network, None) == 400


def test_networks_that_work_in_turns_are_there_together():
    assert beside("unet", ("unet", "controlnet"), ("vae", "unet", "controlnet")) == ["unet", "controlnet"]
    assert beside("vae", ("unet", "controlnet"), ("vae", "unet", "controlnet")) == ["vae"]

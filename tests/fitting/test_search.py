"""The search for the quickest way that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from filmstrip.fitting.search import Alternatives, Choice, cheapest, largest_passing, nbytes_of, smallest
from filmstrip.memory.residency import Grain

STAGES = ("encode", "decode")
# Few values, so that cheap choices that need much and dear ones that need little meet often.
ways = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=4)


def choices(rows, kind):
    return [(Choice(kind, need, f"{kind} {index}", cost),) for index, (cost, need) in enumerate(rows)]


@st.composite
def searches(draw):
    alternatives = Alternatives(choices(draw(ways), "whole"), {stage: choices(draw(ways), stage) for stage in STAGES})
    return alternatives, lambda stage, whole, own: whole[0].value + own[0].value


@given(searches(), st.integers(0, 9), st.integers(0, 5))
def test_a_plan_fits_and_more_memory_never_gives_a_worse_one(search, memory, more):
    alternatives, need = search
    found, with_more = cheapest(alternatives, need, memory), cheapest(alternatives, need, memory + more)
    if found is None:
        assert smallest(alternatives, need).peak > memory
        return
    assert found.peak <= memory
    assert with_more is not None
    assert with_more.cost <= found.cost


@given(searches(), st.integers(0, 9))
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


def test_the_largest_of_the_units_that_come_and_go():
    assert largest_passing(Blocks(), Grain("blocks")) == 800
    assert largest_passing(Blocks(), Grain("blocks", 2)) == 1200
    assert largest_passing(Blocks(), Grain("components")) == 0


def test_tied_weights_are_there_once():
    network = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    network[1].weight = network[0].weight
    assert nbytes_of(network.modules()) == 400


def test_a_dearer_choice_for_the_whole_may_make_the_stages_cheaper():
    alternatives = Alternatives(choices([(0, 3), (1, 0)], "whole"), {"decode": choices([(0, 4), (5, 0)], "decode")})
    found = cheapest(alternatives, lambda stage, whole, own: whole[0].value + own[0].value, 5)
    assert found is not None
    assert [choice.said for choice in found.choices] == ["whole 1", "decode 0"]


def test_what_can_not_fit_by_its_weights_is_not_measured():
    asked = []

    def need(stage, whole, own):
        asked.append(whole[0].said)
        return whole[0].value

    alternatives = Alternatives(choices([(0, 9), (1, 2)], "whole"), {"decode": choices([(0, 0)], "decode")})
    found = cheapest(alternatives, need, 5, lambda whole: whole[0].value)
    assert found is not None
    assert (found.choices[0].said, set(asked)) == ("whole 1", {"whole 1"})

"""Counting memory without having any."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from filmstrip.fitting.ledger import AsWithValues, Ledger, replay, without_values
from filmstrip.fitting.results import Results
from filmstrip.kernels.valueless import in_turn, is_on_cpu, standing_for
from tests import tiny

KILO = 1000


def counted(work, networks=(), *, on_cpu=False):
    ledger = Ledger(dict(networks), on_cpu=on_cpu)
    with ledger, standing_for("cpu" if on_cpu else "meta"):
        kept = work()
    return ledger, kept


def nothing(size=KILO):
    return torch.empty(size, dtype=torch.uint8, device="meta")


def test_what_is_alive_at_a_time_is_added_up():
    def work():
        first = nothing()
        second = nothing(2 * KILO)
        del first
        return second, nothing()

    ledger, _ = counted(work)

    assert (ledger.peak, ledger.live) == (3 * KILO, 3 * KILO)


def test_views_and_work_in_place_take_nothing():
    ledger, _ = counted(lambda: nothing().view(10, -1).add_(1)[2:])

    assert ledger.peak == KILO


def test_weights_are_not_counted_and_tell_which_network_is_at_work():
    networks = {name: without_values(nn.Linear(8, 8, bias=False)) for name in ("a", "b")}
    ledger = Ledger(networks, on_cpu=False)
    with ledger, torch.no_grad():
        ledger.enter("first")
        networks["b"](networks["a"](torch.empty(2, 8, device="meta")))

    assert {name for _, name in ledger.peaks if name} == {"a", "b"}
    assert ledger.peaks["first", "b"][0] == 2 * 2 * 8 * 4  # its input and its output


def test_tensors_of_the_host_count_only_where_the_host_does_the_work():
    assert counted(lambda: torch.empty(KILO))[0].peak == 0
    assert counted(lambda: torch.empty(KILO), on_cpu=True)[0].peak == 4 * KILO


def test_what_stands_for_a_cpu_in_one_thread_does_not_in_another():
    with standing_for("cpu"), ThreadPoolExecutor(1) as other:
        assert is_on_cpu(nothing())
        assert not other.submit(is_on_cpu, nothing()).result()


def test_attention_holds_no_table_of_scores():
    query = torch.empty(1, 1, 1000, 8, device="meta")
    with AsWithValues():
        ledger, attended = counted(lambda: nn.functional.scaled_dot_product_attention(query, query, query))

    assert attended.shape == query.shape
    assert ledger.peak == attended.nbytes + 1000 * 4


def test_an_encoder_without_values_gives_its_layers_outputs_though_the_original_has_given_them_before():
    encoder, ids = tiny.clip_text_encoder(), torch.zeros(1, 4, dtype=torch.long)
    assert len(encoder(ids, output_hidden_states=True).hidden_states) == 4
    copied = without_values(encoder)
    assert len(copied(ids.to("meta"), output_hidden_states=True).hidden_states) == 4


def test_a_network_without_values_has_the_types_asked_for_and_no_hooks():
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    network[0].register_forward_pre_hook(lambda *_: 1 / 0)
    copied = without_values(network, torch.bfloat16)

    assert [one.dtype for one in copied.parameters()] == [torch.bfloat16] * 4
    assert all(one.is_meta for one in copied.parameters())
    assert copied[0](torch.empty(1, 4, dtype=torch.bfloat16, device="meta")).shape == (1, 4)
    assert not any(one.is_meta for one in network.parameters())


def test_a_network_is_gone_through_until_it_keeps_nothing_and_then_replayed():
    calls = []

    class Remembering(nn.Linear):
        def forward(self, hidden_states):
            if not calls:
                self.remembered = nothing()
            calls.append(len(hidden_states))
            return super().forward(hidden_states.repeat(4, 1))[:1]

    network = without_values(Remembering(8, 8, bias=False))
    ledger = Ledger({"a": network}, on_cpu=False)
    replay(network, "a", ledger)
    peaks = []
    with ledger, torch.no_grad():
        hidden_states = torch.empty(1, 8, device="meta")
        for _ in range(4):
            ledger.peaks.clear()
            network(hidden_states)
            peaks.append(ledger.peak)
        network(torch.empty(2, 8, device="meta"))

    assert calls == [1, 1, 2]
    assert len(set(peaks)) == 1
    assert ledger.calls["a"] == 5


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_only_the_ends_of_a_work_without_values_are_done(count):
    real, valueless = torch.empty(1), torch.empty(1, device="meta")

    assert list(in_turn(range(count), real)) == list(range(count))
    assert list(in_turn(range(count), valueless)) == sorted(
        {0, count - 1} | set(range(min(count, 2)) if count < 3 else ())
    )


def test_tensors_without_values_stand_for_those_of_a_cpu_only_when_told():
    valueless = torch.empty(1, device="meta")
    assert is_on_cpu(torch.empty(1))
    assert not is_on_cpu(valueless)
    with standing_for("cpu"):
        assert is_on_cpu(valueless)
    assert not is_on_cpu(valueless)


def test_weights_are_there_as_they_would_come():
    network = nn.ModuleList([nn.Linear(10, size, bias=False) for size in (10, 20)])  # 400 and 800 bytes
    network = without_values(nn.ModuleDict({"blocks": network, "last": nn.Linear(10, 1, bias=False)}))  # and 40
    ledger = Ledger({"a": network}, on_cpu=False)
    with ledger, torch.no_grad():
        hidden_states = torch.empty(1, 10, device="meta")
        for layer in (*network["blocks"], network["last"]):
            layer(hidden_states)

    activations = 40 + 80
    assert ledger.peaks["", "a"] == (activations, activations + 1240, activations + 800, activations + 800)


def two_networks():
    """Two networks of two blocks each: of 400 bytes and of 800."""
    made = {
        name: nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(10, size, bias=False) for size in (10, size))})
        for name, size in (("small", 10), ("large", 30))
    }
    return {name: without_values(one) for name, one in made.items()}


@torch.no_grad()
def gone_through(networks, *names, together=()):
    ledger = Ledger(networks, on_cpu=False, together=together)
    with ledger:
        hidden_states = torch.empty(1, 10, device="meta")
        for name in names:
            ledger.enter(f"with {name}")
            for layer in networks[name]["blocks"]:
                layer(hidden_states)
    return ledger


def test_what_is_there_when_a_stage_begins_is_counted_as_it_came():
    ledger = gone_through(two_networks(), "large", "small")
    # 40 bytes go in and are there all the time, and 40 or 120 come out.
    assert ledger.peaks["with small", "large"] == (40, 40 + 1600, 40 + 1200, 40 + 1200)
    assert ledger.peaks["with small", "small"] == (80, 80 + 800, 80 + 400, 80 + 400)
    assert ledger.at_work == {"with large": ["large"], "with small": ["small"]}


def test_a_network_that_is_replayed_makes_others_leave_as_it_did():
    networks = two_networks()
    for network in networks.values():
        network.forward = lambda given, layers=network["blocks"]: sum(layer(given).sum() for layer in layers)
    ledger = Ledger(networks, on_cpu=False)
    for name, network in networks.items():
        replay(network, name, ledger)
    with ledger, torch.no_grad():
        hidden_states = torch.empty(1, 10, device="meta")
        for stage, names in {"first": ("large", "small"), "second": ("large", "small")}.items():
            ledger.enter(stage)
            for name in names:
                networks[name](hidden_states)
    assert ledger.peaks["second", "large"] == ledger.peaks["first", "large"]
    assert ledger.peaks["second", "small"] == ledger.peaks["first", "small"]
    assert ledger.at_work["second"] == ["large", "small"]


def test_those_that_take_turns_stay_side_by_side_in_the_ledger():
    networks = two_networks()
    apart, together = (gone_through(networks, "large", "small", "large", together=one) for one in ((), networks))
    assert not apart.beside["with large", "large"]
    assert together.beside["with large", "large"] == {"small"}
    assert together.beside["with small", "small"] == {"large"}


def test_operations_are_worked_out_once_for_a_kind_of_tensors(monkeypatch):
    results, asked = Results(), []

    def gives(func, *args, **kwargs):
        def work():
            asked.append(func)
            return func(*args, **kwargs)

        return results.of(func, work, args, kwargs)

    aten = torch.ops.aten
    made = [torch.empty(2, 3, device="meta") for _ in range(2)]
    first, second = (gives(aten.mul.Tensor, one, 0.5 + number) for number, one in enumerate(made))
    assert asked == [aten.mul.Tensor]
    assert first is not second and first.shape == second.shape == (2, 3)
    assert gives(aten.mul_.Tensor, made[0], 2.0) is made[0] and gives(aten.mul_.Tensor, made[1], 3.0) is made[1]
    halves = [gives(aten.split.Tensor, one, 1) for one in made]
    assert [len(one) for one in halves] == [2, 2]
    assert halves[1][0].untyped_storage()._cdata == made[1].untyped_storage()._cdata  # a view is of its own tensor
    assert gives(aten.mul.Tensor, torch.ones(2), 2.0).tolist() == gives(aten.mul.Tensor, torch.ones(2), 2.0).tolist()
    assert float(gives(aten.mul.Tensor, torch.ones(1), 3.0)) == 3.0  # what has values is computed
    assert gives(aten.sum.dim_IntList, made[0], [1]).shape == (2,)
    assert gives(aten.sum.dim_IntList, made[0], [True]).shape == (2,)
    assert gives(aten.sum.dim_IntList, made[0], [0]).shape == (3,)

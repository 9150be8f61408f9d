"""Counting memory without having any."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from filmstrip.fitting.ledger import AsWithValues, Ledger, replay, without_values
from filmstrip.kernels.valueless import in_turn, is_on_cpu, standing_for

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
            ledger.most = (0,) * len(ledger.most)
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

"""The block at the lowest resolution of a U-Net is told which of its columns begin and end it."""

import pytest
import torch
from torch import nn

from filmstrip.nn.unet import Conditions, MidBlock


class Noted(nn.Module):
    def __init__(self, name, notes):
        super().__init__()
        self.name, self.notes = name, notes

    def forward(self, hidden_states):
        self.notes.append(self.name)
        return hidden_states


@pytest.mark.parametrize(
    ("lengths", "ends", "order"),
    [
        ({"a": 2, "b": 1}, ["a"], "a0 b0 a1"),
        ({"a": 2, "t": 2, "b": 1, "s": 1}, ["a", "t"], "a0 t0 b0 s0 a1 t1"),
        ({"b": 2, "a": 3}, ["a"], "a0 b0 a1 b1 a2"),
        ({"a": 1}, ["a"], "a0"),
        ({"a": 2, "b": 2, "c": 1}, ["a"], "a0 b0 c0 a1"),  # as long as the ends, and between them
    ],
)
def test_columns_run_in_their_order(lengths, ends, order):
    notes: list[str] = []
    columns = {name: [Noted(f"{name}{i}", notes) for i in range(length)] for name, length in lengths.items()}
    calls = dict.fromkeys(columns, lambda part, hidden_states, given: part(hidden_states))
    block = MidBlock(columns, calls, ends)
    block(torch.zeros(1), Conditions(torch.zeros(1)))
    assert " ".join(notes) == order

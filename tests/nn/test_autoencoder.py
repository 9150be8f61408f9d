"""The parts that autoencoders have in common."""

import pytest
import torch
from torch import nn

from filmstrip.configuration import Config
from filmstrip.memory.tiling import Tile, exceeds
from filmstrip.nn.autoencoder import Level, check_block_types


class Plus(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, hidden_states):
        return hidden_states * 10 + self.number


def test_a_level_ends_with_its_sampler_under_the_name_that_files_have():
    assert Level([Plus(1), Plus(2)], upsampler=Plus(3))(torch.zeros(1)).item() == 123
    down, up = Level([Plus(1)], downsampler=nn.Linear(1, 1)), Level([Plus(1)])
    assert set(down.state_dict()) == {"downsamplers.0.weight", "downsamplers.0.bias"} and not up.samplers


def test_blocks_of_other_kinds_or_numbers_are_refused():
    config = {"down_block_types": ["D", "D"], "up_block_types": ("U", "U"), "block_out_channels": (4, 8)}
    check_block_types(Config(config), "D", "U")
    with pytest.raises(ValueError, match=r"up_block_types must be 'U', once for each .* got \['U'\]"):
        check_block_types(Config(config | {"up_block_types": ["U"]}), "D", "U")


def test_what_is_larger_than_a_tile_on_one_side_exceeds_it():
    tiles = Tile(4, 3), Tile(6, 5)
    assert [exceeds(torch.empty(1, 1, *size), tiles) for size in ((4, 6), (5, 6), (4, 7))] == [False, True, True]

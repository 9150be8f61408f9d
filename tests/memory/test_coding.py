"""The ways in which an autoencoder can divide its decoding."""

from types import SimpleNamespace

import pytest

from filmstrip.memory.coding import Way, decoding_ways, smaller_ways, tile_way


class Divisible(SimpleNamespace):
    """An object with the settings of an autoencoder."""

    def decoding_ways(self):
        yield Way("whole", {"at_once": None, "tile": None})
        yield Way("in chunks of 8 frames", {"at_once": 8, "tile": None})
        for side in (64, 32, 16):
            yield tile_way((side, side), (side, side), {"at_once": 8, "tile": side})

    @property
    def tile_size(self):
        return self.tile and (self.tile, self.tile)


def names(ways):
    return [way.name for way in ways]


def test_a_way_is_set_and_taken_back_even_by_an_error():
    vae = Divisible(at_once=None, tile=None)
    way = decoding_ways(vae)[2]
    with pytest.raises(RuntimeError), way.applied(vae):
        assert (vae.at_once, vae.tile) == (8, 64)
        assert way.is_set(vae)
        raise RuntimeError
    assert (vae.at_once, vae.tile) == (None, None)


def test_what_can_not_be_divided_is_decoded_whole():
    assert names(decoding_ways(object())) == ["whole"]
    assert smaller_ways(object(), 64, 64) == ()


def test_smaller_ways_come_after_the_present_one_and_divide_something():
    tiles = ["in tiles of 64x64", "in tiles of 32x32", "in tiles of 16x16"]
    assert names(smaller_ways(Divisible(at_once=None, tile=None), 65, 10)) == ["in chunks of 8 frames", *tiles]
    assert names(smaller_ways(Divisible(at_once=8, tile=None), 64, 64)) == tiles[1:]
    assert names(smaller_ways(Divisible(at_once=8, tile=64), 100, 100)) == tiles[1:]


def test_below_settings_of_the_users_own_there_are_smaller_tiles():
    assert names(smaller_ways(Divisible(at_once=3, tile=48), 100, 100)) == ["in tiles of 32x32", "in tiles of 16x16"]
    assert len(smaller_ways(Divisible(at_once=3, tile=None), 100, 100)) == 3

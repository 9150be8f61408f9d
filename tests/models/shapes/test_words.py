"""The words that the model in the box says it understands are those that it was trained on."""

from filmstrip.models.shapes.family import FAMILY
from training.shapes.captions import vocabulary
from training.shapes.clips import BACKGROUNDS, COLOURS, MOTIONS, SHAPES


def test_all_that_clips_show_can_be_said():
    assert FAMILY.understands["shape"] == SHAPES
    assert FAMILY.understands["colour"] == tuple(COLOURS)
    assert FAMILY.understands["motion"][: len(MOTIONS)] == MOTIONS
    assert set(FAMILY.understands["background"]) == {*BACKGROUNDS, "grey"}


def test_every_word_was_in_the_captions():
    assert {word for words in FAMILY.understands.values() for word in words} <= set(vocabulary())

"""The drawn picture of the house is what its imports are."""

from graphlib import CycleError
from xml.etree import ElementTree

import pytest

from docs.architecture import PICTURE, arrows, crossings, layers, leaves, picture, reduced, rows_of
from tests.guards.source import Source, package_sources

HOUSE = [
    Source("filmstrip", "from filmstrip import registry", is_package=True),
    Source("filmstrip.registry", '"""The tables."""'),
    Source("filmstrip.nn", '"""Blocks & parts. Further words."""', is_package=True),
    Source("filmstrip.memory", '"""Portions.\n\nMore."""\nfrom filmstrip import registry', is_package=True),
    Source("filmstrip.memory.tiles", "from filmstrip.nn import blocks"),
    Source("filmstrip.models", '"""Families."""', is_package=True),
    Source("filmstrip.models.sea", "from filmstrip.memory import tiles", is_package=True),
    Source("filmstrip.models.bay", "from filmstrip.models.sea import x\nfrom filmstrip.nn import y", is_package=True),
]


def boxes(text):
    """The texts in a picture."""
    return [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_is_the_one_that_the_sources_make():
    drawn = PICTURE.read_text(encoding="utf-8")
    assert drawn == picture(package_sources()), "the imports have changed: run `make picture` and commit the result"


def test_every_room_and_family_is_drawn():
    shown = boxes(picture(package_sources()))
    folders = {source.module.split(".")[1] for source in package_sources() if source.module.count(".") > 1}
    assert {f"{folder}/" for folder in folders - {"pipelines"}} <= set(shown)
    families = {source.module.split(".")[2] for source in package_sources() if ".models." in source.module}
    assert families <= set(shown)


def test_a_longer_way_replaces_an_arrow():
    found = arrows(HOUSE)
    assert found == {"registry": set(), "nn": set(), "memory": {"registry", "nn"}, "models": {"memory", "nn"}}
    assert reduced(found)["models"] == {"memory"}


def test_a_room_stands_above_all_that_it_imports():
    found = arrows(package_sources())
    level = layers(found)
    assert all(level[room] > level[target] for room, targets in found.items() for target in targets)


def test_single_files_that_import_no_room_are_leaves():
    assert leaves(HOUSE) == {"registry"}
    above = Source("filmstrip.network", "from filmstrip import registry\nfrom filmstrip.nn import x")
    aside = Source("filmstrip.outputs", "from filmstrip import registry")
    assert leaves([*HOUSE, above, aside]) == {"registry", "outputs"}


def test_what_no_room_imports_stands_on_top():
    assert layers({"command": {"a"}, "models": {"b"}, "b": {"a"}, "a": set()}) == {
        "command": 2,
        "models": 2,
        "b": 1,
        "a": 0,
    }


def test_a_circle_of_rooms_can_not_be_drawn():
    back = Source("filmstrip.nn.blocks", "from filmstrip.memory import tiles")
    with pytest.raises(CycleError):
        picture([*HOUSE, back])


def test_a_picture_says_what_rooms_are_for_and_what_families_build_on():
    shown = boxes(picture(HOUSE))
    assert shown == [
        *("memory/", "Portions"),
        *("models/", "Families", "bay", "on sea", "sea", None),
        *("nn/", "Blocks & parts. Further words", "registry.py", "The tables"),
    ]


def test_the_order_of_the_sources_does_not_matter():
    assert picture(HOUSE[::-1]) == picture(HOUSE)


def test_rooms_are_ordered_so_that_arrows_do_not_cross():
    crossed = {"a": {"d"}, "b": {"c"}, "c": set(), "d": set()}
    rows, ways = rows_of(crossed)
    assert crossings([["a", "b"], ["c", "d"]], ways) == 1
    assert crossings(rows, ways) == 0

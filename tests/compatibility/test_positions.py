"""Arguments that code written for Diffusers gives by position mean the same here."""

import inspect

import diffusers
import pytest

import filmstrip
from filmstrip.registry import PIPELINES

BOTH = [name for name in PIPELINES if hasattr(diffusers, name)]


def by_position(pipeline_class):
    parameters = list(inspect.signature(pipeline_class.__call__).parameters.values())[1:]
    return [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def test_most_pipelines_are_in_both():
    assert len(BOTH) >= 10


@pytest.mark.parametrize("name", BOTH)
def test_what_has_a_place_has_the_same_one_there(name):
    ours, theirs = (by_position(getattr(package, name)) for package in (filmstrip, diffusers))
    assert len(ours) >= 2
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize("name", BOTH)
def test_every_argument_of_the_reference_is_taken_by_name(name):
    theirs = list(inspect.signature(getattr(diffusers, name).__call__).parameters)[1:]
    ours = inspect.signature(getattr(filmstrip, name).__call__).parameters
    assert [one for one in theirs if one not in ours and one != "kwargs"] == []

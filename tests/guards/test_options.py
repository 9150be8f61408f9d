"""Shared code knows no option that only some families have: it asks a field what it is for.

Attributes need no guard: the types of shared code have no such field, and the type checker says so. What could slip in
are names as strings.
"""

import ast
import dataclasses
from collections.abc import Collection, Iterable, Iterator

import pytest

import filmstrip
from filmstrip.generation import arguments, prompts, resolve
from filmstrip.registry import PIPELINES
from tests.guards.source import Source, docstrings, expect_none, package_sources, place

SHARED = {"assembly", "fitting", "generation", "jobs", "kernels", "media", "memory", "nn", "resume"}
# The command's own words for arguments, in one place.
WORDS = {"filmstrip.jobs.calls"}


def fields_of(*modules: object) -> set[str]:
    """Names of the fields of all dataclasses that modules define."""
    kinds = [kind for module in modules for kind in vars(module).values() if dataclasses.is_dataclass(kind)]
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def options() -> set[str]:
    """Arguments of pipelines that no shared record has."""
    taken = {name for one in PIPELINES for name in arguments.facts_of(getattr(filmstrip, one).arguments)}
    return taken - fields_of(arguments, prompts, resolve)


def named(sources: Iterable[Source], names: Collection[str]) -> Iterator[str]:
    for source in sources:
        if source.area not in SHARED or source.module in WORDS:
            continue
        prose = docstrings(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and node.value in names and node not in prose:
                yield f"{place(source, node)}: {node.value}"


def test_shared_code_names_no_option_of_a_family():
    found = options()
    assert {"image", "t0", "guess_mode", "decode_timestep", "use_dynamic_cfg", "clip_skip"} <= found
    # Words that mean other things as well: a file's streams and its rate, a setting of solvers.
    expect_none(named(package_sources(), found - {"video", "image", "fps", "timesteps", "sigmas"}))


@pytest.mark.parametrize("text", ['values["clip_skip"]', 'getattr(arguments, "t0")', '_ONLY = ("guess_mode",)'])
def test_an_option_in_shared_code_is_found(text):
    assert list(named([Source("filmstrip.generation.x", text)], options()))
    assert not list(named([Source("filmstrip.models.ltx.x", text)], options()))

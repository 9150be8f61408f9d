"""Imports point one way, and never at the reference implementation."""

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from filmstrip.registry import families
from tests.guards.source import PACKAGE, Source, area_of, expect_none, imports, package_sources, place


def _family(module: str) -> str:
    return [*module.split("."), "", ""][2]


# Anybody may import these; they import nothing above.
LEAVES = {
    "checks",
    "files",
    "configuration",
    "devices",
    "families",
    "hints",
    "json_files",
    "outputs",
    "sharing",
    "randomness",
    "records",
    "hushing",
    "registry",
    "roles",
    "versions",
}
SHARED = {"kernels", "nn", "media", "checkpoints", "schedulers", "memory", "network"}
BELOW = {
    "": {"families", "registry", "versions"},  # the package's __init__ resolves public names through the table
    "checks": {"json_files"},
    "files": set(),
    "configuration": LEAVES,
    "families": set(),
    "hints": set(),
    "json_files": set(),
    "hushing": set(),
    "outputs": {"randomness"},
    "sharing": {"files"},
    "randomness": {"records"},
    "records": {"hints", "json_files"},
    "roles": set(),
    "versions": set(),
    "registry": {"families", "hushing", "json_files"},  # and it reads each family's family.py
    "devices": LEAVES,
    **dict.fromkeys(SHARED, SHARED | LEAVES),
    "kernels": LEAVES,
    "generation": SHARED | LEAVES,
    "resume": {"generation"} | SHARED | LEAVES,
    "fitting": {"generation"} | SHARED | LEAVES,
    "assembly": {"fitting", "resume", "generation"} | SHARED | LEAVES,
    "models": {"assembly", "generation"} | SHARED | LEAVES,
    "jobs": {"models", "assembly", "fitting", "resume", "generation"} | SHARED | LEAVES,
    "cli": {"jobs", "models", "assembly", "fitting", "resume", "generation"} | SHARED | LEAVES,
    "__main__": {"cli"},
    "pipelines": {"models"},  # a module path, too
    "utils": {"media", "randomness"},  # the module path that code written for Diffusers imports from
}
NEIGHBOURS = {(_family(one.package), other) for one in families() for other in one.builds_on}
REFERENCES = {"diffusers", "mindone"}  # never
ONLY_WHERE_USED = {"mindspore"}  # optional, so never when a module is loaded
# What parses and draws for a person, and who may: a job is carried out for servers, too.
FOR_PEOPLE = {"typer": {"cli"}, "click": {"cli"}, "rich": {"cli", "assembly"}}


def wrong_arrows(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.area not in BELOW:
            yield f"{source.module}: no place in the layout for {source.area!r}"
            continue
        for node, target in imports(source):
            if target.split(".")[0] != PACKAGE or target == f"{PACKAGE}.__version__":
                continue
            area = area_of(target)
            if area == source.area and area != "models":
                continue
            if area == "models" == source.area:
                family, other = _family(source.module), _family(target)
                if family != other and (family, other) not in NEIGHBOURS:
                    yield f"{place(source, node)}: family {family!r} imports family {other!r}"
            elif area not in BELOW[source.area]:
                yield f"{place(source, node)}: {source.area or PACKAGE} may not import {target}"


def circles(sources: Iterable[Source]) -> list[str]:
    """The areas of a circular import, empty if there is none."""
    graph: dict[str, set[str]] = {}
    for source in sources:
        targets = {area_of(target) for _, target in imports(source) if target.split(".")[0] == PACKAGE}
        graph.setdefault(source.area, set()).update(targets - {source.area})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def heavy_families(sources: Iterable[Source]) -> Iterator[str]:
    """What a family.py imports beside the form that it fills in and the family.py of others."""
    for source in sources:
        for node, target in imports(source):
            if not target.startswith("filmstrip.families.") and not target.endswith(".family.FAMILY"):
                yield f"{place(source, node)}: imports {target}"


def file_circles(sources: Iterable[Source]) -> list[str]:
    """The files of a circle of imports that are made when the files are loaded, empty if there is none."""
    files = {source.module: source for source in sources}
    graph = {}
    for module, source in files.items():
        later = {
            id(inner)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            for inner in ast.walk(node)
        }
        now = [target for node, target in imports(source) if id(node) not in later]
        found = {one if one in files else one.rpartition(".")[0] for one in now}
        graph[module] = (found & files.keys()) - {module, PACKAGE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def reference_imports(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        for node, target in imports(source):
            library = target.split(".")[0]
            if library in REFERENCES or (library in ONLY_WHERE_USED and node.col_offset == 0):
                yield f"{place(source, node)}: imports {library}"


def libraries_for_people(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        for node, target in imports(source):
            library = target.split(".")[0]
            if source.area not in FOR_PEOPLE.get(library, {source.area}):
                yield f"{place(source, node)}: {source.area} may not import {library}"


def test_imports_follow_the_arrows():
    expect_none(wrong_arrows(package_sources()))


def test_a_family_that_builds_on_another_one_imports_it():
    said = {
        (_family(source.module), _family(target))
        for source in package_sources()
        for _, target in imports(source)
        if source.area == area_of(target) == "models"
    }
    assert said >= NEIGHBOURS


def test_what_families_say_is_read_without_their_networks():
    files = [source for source in package_sources() if source.module.endswith(".family")]
    folders = {_family(source.module) for source in package_sources() if source.area == "models"} - {""}
    assert {_family(source.module) for source in files} == folders
    expect_none(heavy_families(files))


def test_a_heavy_family_is_found():
    texts = ("import torch", "from filmstrip.models.ltx import transformer", "from filmstrip import registry")
    assert len(list(heavy_families(Source("filmstrip.models.x.family", text) for text in texts))) == 3
    light = "from filmstrip.families import Family\nfrom filmstrip.models.ltx.family import FAMILY"
    assert list(heavy_families([Source("filmstrip.models.x.family", light)])) == []


def test_no_two_areas_import_each_other():
    expect_none(circles(package_sources()))


def test_no_files_import_each_other():
    expect_none(file_circles(package_sources()))


def test_a_circle_of_files_is_found_and_what_is_imported_later_is_none():
    there = Source("filmstrip.nn.tiles", "from filmstrip.nn.planner import plan")
    back = Source("filmstrip.nn.planner", "from filmstrip.nn import tiles")
    later = Source("filmstrip.nn.planner", "def f():\n    from filmstrip.nn import tiles")
    assert set(file_circles([there, back])) == {"filmstrip.nn.tiles", "filmstrip.nn.planner"}
    assert not file_circles([there, later])


def test_the_reference_is_never_imported():
    expect_none(reference_imports(package_sources()))


def test_only_the_command_knows_libraries_that_parse_and_draw():
    expect_none(libraries_for_people(package_sources()))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("filmstrip.nn.rotary", "from filmstrip.generation.latents import pack"),
        ("filmstrip.nn.rotary", "def f():\n    from ..models import ltx"),
        ("filmstrip.nn.rotary", "from filmstrip import Pipeline"),
        ("filmstrip.kernels.linear", "from filmstrip.nn.modules import module_list"),
        ("filmstrip.generation.base", "import filmstrip.cli"),
        ("filmstrip.generation.base", "from filmstrip.jobs import Job"),
        ("filmstrip.jobs.videos", "def f():\n    from filmstrip.cli.progress import note"),
        ("filmstrip.registry", "from filmstrip.configuration import Configured"),
        ("filmstrip.devices", "from importlib import import_module\nimport_module('filmstrip.nn')"),
        ("filmstrip.models.ltx.pipeline", "from filmstrip.models.mochi import MochiPipeline"),
        ("filmstrip.models.ltx.pipeline", "from ..shapes import data"),
        ("filmstrip.helpers", ""),
    ],
)
def test_an_import_against_the_arrows_is_found(module, text):
    assert len(list(wrong_arrows([Source(module, text)]))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("filmstrip.cli.generate", "from filmstrip.models import ltx"),
        ("filmstrip.cli.generate", "from filmstrip.jobs import make"),
        ("filmstrip.jobs.videos", "from filmstrip.generation import run\nfrom filmstrip.registry import PIPELINES"),
        ("filmstrip.models.shapes.pipeline", "from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel"),
        ("filmstrip.generation.base", "from filmstrip.network import Model\nfrom .request import Request"),
        ("filmstrip.memory.tiles", "from filmstrip import devices"),
        ("filmstrip.media.writer", "from filmstrip import __version__\nimport numpy"),
    ],
)
def test_an_import_along_the_arrows_is_allowed(module, text):
    assert list(wrong_arrows([Source(module, text)])) == []


def test_a_library_for_people_is_found():
    text = "def f():\n    from rich.console import Console\n    import typer"
    assert len(list(libraries_for_people([Source("filmstrip.jobs.x", text)]))) == 2
    assert not list(libraries_for_people([Source("filmstrip.cli.x", text)]))


def test_a_circle_is_found():
    there = Source("filmstrip.nn.tiles", "from filmstrip.memory import planner")
    back = Source("filmstrip.memory.planner", "from filmstrip.nn import tiles")
    assert set(circles([there, back])) == {"nn", "memory"}
    assert not circles([there])


@pytest.mark.parametrize(
    "text", ["import diffusers", "def f():\n    from diffusers.utils import x", "import mindspore"]
)
def test_an_import_of_the_reference_is_found(text):
    assert list(reference_imports([Source("filmstrip.nn.x", text)]))


def test_an_optional_library_may_be_imported_where_it_is_used():
    assert list(reference_imports([Source("filmstrip.nn.x", "def f():\n    import mindspore")])) == []

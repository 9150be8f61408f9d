"""Words that have one place: families' names, accelerators, `print`, and what jobs and the command call their own."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

from filmstrip.registry import families
from tests.guards.source import Source, area_of, docstrings, expect_none, package_sources, place

# Families that are to come, by the patterns that their family.py will have.
PLANNED = r"hunyuan|mochi|animate[ _-]?diff|svd_?pipeline"
# No English word contains one of these, so they are looked for anywhere: code, strings, docstrings and comments, in
# upper or lower case, inside longer names too (AutoencoderKLLTXVideo), with or without a separator.
DISTINCTIVE = re.compile("|".join([PLANNED, *sorted({one.known_by for one in families() if one.known_by})]), re.I)
# A family that is called by a plain word ("shapes") is looked for as a model's name: as a whole string, and as a part
# of a path or module (models.shapes, models/shapes). A variable called shapes and a sentence about shapes are fine.
QUOTED = {one.name for one in families() if not one.known_by}
AS_PATH = re.compile(rf"models[./]({'|'.join(sorted(QUOTED))})\b")
MAY_NAME_FAMILIES = {"models", "registry", "pipelines"}
NAMED_BY_WORDS = {"filmstrip.cli.app"}  # whose functions are the words of the command line
OF_EVERY_MODULE = {"logger", "main"}


def families_in_shared_code(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.area in MAY_NAME_FAMILIES:
            continue
        for number, line in enumerate(source.text.splitlines(), 1):
            if found := DISTINCTIVE.search(line) or AS_PATH.search(line):
                yield f"{source.module}:{number}: names a family ({found.group()})"
        prose = docstrings(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and node.value in QUOTED and node not in prose:
                yield f"{place(source, node)}: names a family ({node.value!r})"


def accelerators_named(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.area == "devices":
            continue
        for number, line in enumerate(source.text.splitlines(), 1):
            if "cuda" in line.lower():
                yield f"{source.module}:{number}: names an accelerator"


def prints(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.area == "cli":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"{place(source, node)}: prints"


def defined_twice(sources: Iterable[Source], areas: Iterable[str]) -> Iterator[str]:
    """Public names that a module of these areas defines, and another one of the house as well."""
    modules = defaultdict(list)
    for source in sources:
        for name in _defined(source):
            modules[name].append(source.module)
    for name, found in modules.items():
        if len(found) > 1 and {area_of(module) for module in found} & {*areas}:
            yield f"{name} is defined in {' and '.join(found)}"


def _defined(source: Source) -> set[str]:
    if source.module in NAMED_BY_WORDS:
        return set()
    names = {node.name for node in source.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in source.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {one.id for one in targets if isinstance(one, ast.Name)}
    return {name for name in names if not name.startswith("_") and name not in OF_EVERY_MODULE}


def test_shared_folders_name_no_family():
    expect_none(families_in_shared_code(package_sources()))


def test_every_family_is_looked_for():
    names = {name for one in families() for name in (one.name, one.package.rpartition(".")[2])}
    assert {name for name in names if name not in QUOTED and not DISTINCTIVE.search(name)} == set()


def test_accelerators_are_named_in_the_device_module_only():
    expect_none(accelerators_named(package_sources()))


def test_only_the_command_prints():
    expect_none(prints(package_sources()))


def test_jobs_and_the_command_have_names_of_their_own():
    expect_none(defined_twice(package_sources(), ["jobs", "cli"]))


@pytest.mark.parametrize(
    "text",
    [
        "class AutoencoderKLLTXVideo: ...",
        "x = 1  # as CogVideoX does",
        "def is_mochi(): ...",
        '"""The schedule of Stable Diffusion."""',
        'if model == "shapes": ...',
        "import filmstrip.models.shapes",
        'folder = "models/shapes/weights"',
    ],
)
def test_a_family_in_shared_code_is_found(text):
    assert list(families_in_shared_code([Source("filmstrip.nn.x", text)]))
    assert list(families_in_shared_code([Source("filmstrip.models.x", text)])) == []


@pytest.mark.parametrize("text", ["shapes = [x.shape for x in tensors]", '"""shapes"""', 'error = "the shapes differ"'])
def test_the_plain_word_shapes_is_allowed(text):
    assert list(families_in_shared_code([Source("filmstrip.nn.x", text)])) == []


@pytest.mark.parametrize("text", ["x.cuda()", 'device = "cuda:0"', "torch.backends.CUDA"])
def test_an_accelerator_named_elsewhere_is_found(text):
    assert list(accelerators_named([Source("filmstrip.nn.x", text)]))
    assert list(accelerators_named([Source("filmstrip.devices", text)])) == []


@pytest.mark.parametrize("text", ["class Plan: ...", "def plan(): ...", "plan = 1", "plan: int = 1"])
def test_a_name_of_two_things_is_found(text):
    here, there = Source("filmstrip.jobs.x", text), Source("filmstrip.generation.x", text)
    assert len(list(defined_twice([here, there], ["jobs"]))) == 1
    assert not list(defined_twice([here, there], ["cli"]))
    assert not list(defined_twice([here], ["jobs"]))


def test_a_print_is_found():
    assert list(prints([Source("filmstrip.nn.x", "def f():\n    print(1)")]))
    assert list(prints([Source("filmstrip.cli.x", "print(1)"), Source("filmstrip.nn.x", "x.print()")])) == []

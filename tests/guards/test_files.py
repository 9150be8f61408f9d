"""Files stay short, say what they are for, and say each thing once."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.guards.source import ROOT, Source, expect_none, package_sources, place

MAX_LINES = 400
LEAST_STATEMENTS = 3  # shorter bodies may well be equal by chance


def twins(sources: Iterable[Source]) -> list[str]:
    """Functions whose bodies are the same statements; formatting, comments and docstrings don't count."""
    places = defaultdict(list)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                statements = sum(isinstance(inner, ast.stmt) for part in body for inner in ast.walk(part))
                if statements >= LEAST_STATEMENTS:
                    key = "\n".join(ast.dump(statement) for statement in body)
                    places[key].append(f"{place(source, node)} {node.name}")
    return [" = ".join(same) for same in places.values() if len(same) > 1]


def too_long(texts: dict[str, str]) -> dict[str, int]:
    """The files over the budget, and their lines."""
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    return {name: count for name, count in lines.items() if count > MAX_LINES}


def undescribed(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        is_public = not any(part.startswith("_") for part in source.module.split("."))
        if is_public and not ast.get_docstring(source.tree):
            yield source.module


def test_no_two_functions_have_the_same_body():
    expect_none(twins(package_sources()))


def test_no_file_is_longer_than_its_budget():
    paths = [
        path for folder in ("src", "tests", "benchmarks", "training", "docs") for path in (ROOT / folder).rglob("*.py")
    ]
    assert not too_long({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths})


def test_every_public_module_has_a_docstring():
    expect_none(undescribed(package_sources()))


def test_a_long_file_is_found():
    assert too_long({"a": "x\n" * MAX_LINES, "b": "x\n" * (MAX_LINES + 1)}) == {"b": MAX_LINES + 1}


def test_a_copied_body_is_found():
    one = Source("filmstrip.nn.a", 'def f(x):\n    """One."""\n    y = x + 1\n    z = y * 2\n    return z')
    other = Source(
        "filmstrip.nn.b", "class B:\n    def g(self, x):\n        y = x+1  # same\n        z = y*2\n        return z"
    )
    changed = Source("filmstrip.nn.c", "def h(x):\n    y = x + 1\n    z = y * 3\n    return z")
    assert len(twins([one, other, changed])) == 1
    assert not twins([one, changed])


def test_an_equal_one_liner_is_allowed():
    assert not twins([Source("filmstrip.nn.a", "def f(x):\n    return x\n\n\ndef g(x):\n    return x")])


def test_a_module_without_a_docstring_is_found():
    assert list(undescribed([Source("filmstrip.nn.a", "x = 1")])) == ["filmstrip.nn.a"]
    assert list(undescribed([Source("filmstrip.nn._a", "x = 1"), Source("filmstrip.nn.b", '"""B."""')])) == []

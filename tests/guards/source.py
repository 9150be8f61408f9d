"""The files that the guards read, parsed once."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "filmstrip"


@dataclass(frozen=True)
class Source:
    """One Python file: its dotted module name and its text. A guard takes these, so a sample is as good as a file."""

    module: str
    text: str = field(repr=False)
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def area(self) -> str:
        """The part of the house: `nn` for filmstrip.nn.rotary, empty for filmstrip itself."""
        return area_of(self.module)


def area_of(module: str) -> str:
    return [*module.split("."), ""][1]


@cache
def package_sources() -> tuple[Source, ...]:
    """Every module under src/."""
    return tuple(_read(ROOT / "src"))


def _read(folder: Path) -> Iterator[Source]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield Source(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package)


def imports(source: Source) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Each import, wherever it stands, as (node, absolute dotted name); `from a import b` gives a.b.

    Imports inside functions and under TYPE_CHECKING count, and so does `import_module("...")` with a plain string.
    """
    package = source.module.split(".") if source.is_package else source.module.split(".")[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*anchor, *([node.module] if node.module else [])])
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node, name.value


def _called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def place(source: Source, node: ast.AST) -> str:
    return f"{source.module}:{getattr(node, 'lineno', 1)}"


def docstrings(tree: ast.AST) -> set[ast.Constant]:
    """The constants that are docstrings of a module, class or function."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None:
            found.add(node.body[0].value)
    return found


def expect_none(complaints: Iterable[str]) -> None:
    """Fail with one complaint a line, all of them."""
    found = list(complaints)
    assert not found, "\n".join(["", *found])

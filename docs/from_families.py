"""Write what follows from the families: `python docs/from_families.py` (`make families`).

That is the table of models in the README, the table of tasks in the guide, and the types of the public names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from filmstrip.families import Family
from filmstrip.registry import PUBLIC, families

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- written by docs/from_families.py -->\n", "<!-- end -->\n"


def main() -> None:
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")


def written() -> dict[Path, str]:
    """The files that hold something of this, as they are to be."""
    readme, guide = ROOT / "README.md", ROOT / "docs" / "guide.md"
    return {
        readme: with_table(readme.read_text(encoding="utf-8"), models_table(families())),
        guide: with_table(guide.read_text(encoding="utf-8"), tasks_table(families())),
        ROOT / "src" / "filmstrip" / "__init__.pyi": stub(PUBLIC),
    }


def with_table(page: str, table: str) -> str:
    """A page with the table between its two marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, "the page has no marks for a table"
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def models_table(rows: Iterable[Family]) -> str:
    """What each family makes, from which checkpoints, and under which licence these come."""
    lines = ["| family | makes | checkpoints to try | licence of the weights |", "| --- | --- | --- | --- |"]
    for one in rows:
        title = f"[{one.title}](https://arxiv.org/abs/{one.paper})" if one.paper else one.title
        checkpoints = ", ".join(f"`{name}`" for name in one.checkpoints)
        lines.append(f"| {title} | {one.makes} | {checkpoints} | {one.licence} |")
    return "".join(f"{line}\n" for line in lines)


def tasks_table(rows: Iterable[Family]) -> str:
    """Which class serves which task of which family, and a checkpoint for it."""
    lines = ["| family | task | class | checkpoint to try |", "| --- | --- | --- | --- |"]
    for one in rows:
        for task, served in one.tasks.items():
            lines.append(f"| {one.title} | {task} | `{served.pipeline}` | `{served.checkpoint}` |")
    return "".join(f"{line}\n" for line in lines)


def stub(public: Mapping[str, str]) -> str:
    """The types of the public names, for type checkers and editors: a module that imports them all."""
    by_module = defaultdict(list)
    for name, module in public.items():
        by_module[module].append(name)
    lines = ["# Written by docs/from_families.py."]
    for module in sorted(by_module):
        lines += [f"from {module} import {name} as {name}" for name in sorted(by_module[module])]
    lines += ["", "__all__ = [", *(f'    "{name}",' for name in sorted(public)), "]", "", "__version__: str"]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()

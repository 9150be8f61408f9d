"""What the command says on stdout: aligned facts for a person, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

CONSOLE = Console(highlight=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object; what JSON lacks is written as text."""
    print(json.dumps(content, ensure_ascii=False, indent=2, default=str))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Lines of a name and what it is; a name that is empty continues the line above."""
    rows = list(facts)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        CONSOLE.print(Text.assemble((f"{name:<{width}}", "bold"), f"  {value}"))


def print_title(title: str) -> None:
    """A line above facts."""
    CONSOLE.print(Text(title, "bold underline"))


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Columns as wide as their longest entry; the first row is their titles."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        line = "  ".join(f"{entry:<{width}}" for entry, width in zip(row, widths, strict=True)).rstrip()
        CONSOLE.print(Text(line, "bold" if number == 0 else ""))


def number_of(count: int) -> str:
    """A large count in words: "1.92 billion"."""
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            return f"{count / size:.3g} {word}"
    return str(count)


def bytes_of(count: int) -> str:
    """A size such as "3.85 GB", in powers of 1000."""
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"

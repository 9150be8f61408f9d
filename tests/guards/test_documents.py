"""The pages of the project point at things that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.from_families import BEGIN, END, models_table, tasks_table, with_table, written
from filmstrip.families import Family, Task
from filmstrip.registry import PUBLIC
from tests.guards.source import ROOT, Source, expect_none, imports

SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")]


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(COMMENT.sub("", text)):
        if "://" not in target and not (page.parent / target).exists():
            yield f"{page.name}: {target}"


def unknown_names(page: Path, text: str) -> Iterator[str]:
    """What the page's snippets import from filmstrip without it being a public name; a snippet must parse, too."""
    for snippet in SNIPPET.findall(text):
        for _, target in imports(Source("snippet", snippet)):
            library, _, name = target.partition(".")
            if library == "filmstrip" and name not in PUBLIC:
                yield f"{page.name}: {target}"


def test_every_link_between_the_pages_leads_somewhere():
    assert pages()
    expect_none(link for page in pages() for link in dead_links(page, page.read_text(encoding="utf-8")))


def test_the_snippets_import_public_names():
    expect_none(name for page in pages() for name in unknown_names(page, page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_what_follows_from_the_families_is_in_step_with_them(path):
    assert path.read_text(encoding="utf-8") == written()[path], "run: make families"


def test_tables_say_what_families_say():
    family = Family("toy", "Toy", "dots", "free", {"text-to-video": Task("ToyPipeline", "org/toy")}, ("org/toy",), "7")
    assert models_table([family]).splitlines()[2] == "| [Toy](https://arxiv.org/abs/7) | dots | `org/toy` | free |"
    assert tasks_table([family]).splitlines()[2] == "| Toy | text-to-video | `ToyPipeline` | `org/toy` |"
    assert with_table(f"a\n{BEGIN}old\n{END}b\n", "new\n") == f"a\n{BEGIN}\nnew\n\n{END}b\n"


def test_a_snippet_with_an_unknown_name_is_found():
    text = "```python\nfrom filmstrip import LTXPipeline, NoSuchName\n```\n"
    assert list(unknown_names(Path("page.md"), text)) == ["page.md: filmstrip.NoSuchName"]
    with pytest.raises(SyntaxError):
        list(unknown_names(Path("page.md"), "```python\npipe = (\n```\n"))


def test_a_dead_link_is_found(tmp_path):
    text = "[a](gone.md) ![b](gone.png) [c](https://example.org) [d](#part) [e](page.md#part)"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert list(dead_links(tmp_path / "page.md", text)) == ["page.md: gone.md", "page.md: gone.png"]

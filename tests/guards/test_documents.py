"""The pages of the project point at things that exist."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import indent

import pytest

from docs.from_families import BEGIN, END, models_table, tasks_table, with_table, written
from filmstrip.families import Family, Task
from filmstrip.registry import PUBLIC
from tests.guards.source import ROOT, Source, expect_none, imports

SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PLACE = re.compile(
    r"`((?:[\w.]+/)+(?:\w+\.\w+)?|\w+\.py)`"
)  # `nn/`, `models/ltx/`, `generation/session.py`, `family.py`
ARCHITECTURE, STYLE = (ROOT / "docs" / name for name in ("architecture.md", "style.md"))


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


def missing_places(page: Path, text: str) -> Iterator[str]:
    """The folders and files that a page names in code and that are nowhere in the house."""
    house = ROOT / "src" / "filmstrip"
    for place in PLACE.findall(text):
        bases = (ROOT, house, house / "models")
        if not any((base / place).exists() for base in bases) and ("/" in place or not any(house.rglob(place))):
            yield f"{page.name}: {place}"


def invented(page: Path, text: str, sources: Iterable[str]) -> Iterator[str]:
    """The snippets of a page that are not code of ours, line by line."""
    sources = list(sources)
    for snippet in SNIPPET.findall(text):
        forms = ["\n" + indent(snippet, " " * depth) for depth in (0, 4, 8)]
        if not any(form in source for source in sources for form in forms):
            yield f"{page.name}: {snippet.splitlines()[0]}"


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


def test_the_rooms_and_files_that_the_architecture_names_exist():
    expect_none(missing_places(ARCHITECTURE, ARCHITECTURE.read_text(encoding="utf-8")))


def test_the_examples_of_the_style_are_from_the_code():
    files = [path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    expect_none(invented(STYLE, STYLE.read_text(encoding="utf-8"), sources))


def test_a_missing_place_and_an_invented_example_are_found():
    text = "`nn/` `nn/rotary.py` `ltx/` `family of them` `utils.py` `tests/guards/` `nn/gone.py` `gone/` `gone.py`"
    assert list(missing_places(Path("page.md"), text)) == [
        f"page.md: {one}" for one in ("nn/gone.py", "gone/", "gone.py")
    ]
    page = "```python\nx = 1\ny = 2\n```\n```python\nx = 1\n```\n"
    assert list(invented(Path("page.md"), page, ["\nclass A:\n    x = 1\n    z = 2\n"])) == ["page.md: x = 1"]


def test_a_snippet_with_an_unknown_name_is_found():
    text = "```python\nfrom filmstrip import LTXPipeline, NoSuchName\n```\n"
    assert list(unknown_names(Path("page.md"), text)) == ["page.md: filmstrip.NoSuchName"]
    with pytest.raises(SyntaxError):
        list(unknown_names(Path("page.md"), "```python\npipe = (\n```\n"))


def test_a_dead_link_is_found(tmp_path):
    text = "[a](gone.md) ![b](gone.png) [c](https://example.org) [d](#part) [e](page.md#part)"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert list(dead_links(tmp_path / "page.md", text)) == ["page.md: gone.md", "page.md: gone.png"]

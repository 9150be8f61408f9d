"""The pages of the project point at things that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.guards.source import ROOT

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")]


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(text):
        if "://" not in target and not (page.parent / target).exists():
            yield f"{page.name}: {target}"


def test_every_link_between_the_pages_leads_somewhere():
    assert pages()
    assert not [link for page in pages() for link in dead_links(page, page.read_text(encoding="utf-8"))]


def test_a_dead_link_is_found(tmp_path):
    text = "[a](gone.md) ![b](gone.png) [c](https://example.org) [d](#part) [e](page.md#part)"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert list(dead_links(tmp_path / "page.md", text)) == ["page.md: gone.md", "page.md: gone.png"]

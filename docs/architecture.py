"""Draws the picture of the house from the imports of its sources: `make picture`, or python3 -m docs.architecture.

Rooms are the folders of src/filmstrip. A room stands above all that it imports. Of the arrows only those are drawn that
say something new: who imports `a`, which imports `b`, may import `b` as well. Single files that import no room are
leaves: they stand at the bottom, without arrows, since all may import them.
"""

from __future__ import annotations

import ast
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path

from tests.guards.source import PACKAGE, ROOT, Source, area_of, imports, package_sources

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
DOORS = {"", "__main__", "pipelines", "utils", "__version__"}
"""Module paths that only lead on to a room, and so are none."""
FAMILIES = "models"
"""The room whose folders are drawn one by one."""

ROOM_WIDTH, CHIP_WIDTH, BEND_WIDTH = 210, 158, 24
CHIP_HEIGHT = 42
LINE, PAD, GAP, BETWEEN = 16, 12, 28, 54
CHARACTERS = 29  # to a line of a room
SWEEPS = 12

Graph = Mapping[str, set[str]]
Node = str | tuple[str, str, int]
"""A room, or the place where the arrow between two rooms passes a layer."""


@dataclass(frozen=True)
class Room:
    """What is written in one box."""

    name: str
    is_folder: bool
    text: str
    families: tuple[tuple[str, str], ...] = ()
    """Name and second line of each."""

    @property
    def lines(self) -> list[str]:
        return textwrap.wrap(self.text, CHARACTERS if not self.families else 4 * CHARACTERS)

    @property
    def width(self) -> int:
        chips = len(self.families) * (CHIP_WIDTH + PAD) + PAD
        return max(ROOM_WIDTH, chips if self.families else 0)

    @property
    def height(self) -> int:
        return 2 * PAD + LINE * (1 + len(self.lines)) + (CHIP_HEIGHT + 10 if self.families else 0)


# ---- what the sources say ----------------------------------------------------------------------------------


def arrows(sources: Iterable[Source]) -> dict[str, set[str]]:
    """Each room and the rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for source in sources:
        if source.area in DOORS:
            continue
        targets = {area_of(target) for _, target in imports(source) if target.split(".")[0] == PACKAGE}
        graph.setdefault(source.area, set()).update(targets - DOORS - {source.area})
    return graph


def leaves(sources: Sequence[Source]) -> set[str]:
    """The single files that import none but each other."""
    graph = arrows(sources)
    found = {source.area for source in sources if source.area in graph and not source.is_package} - _folders(sources)
    while over := {room for room in found if not graph[room] <= found}:
        found -= over
    return found


def _folders(sources: Iterable[Source]) -> set[str]:
    return {source.area for source in sources if source.is_package or source.module.count(".") > 1}


def reduced(graph: Graph) -> dict[str, set[str]]:
    """The same arrows without those that a longer way replaces.

    Raises:
        CycleError: rooms import each other in a circle.
    """
    below: dict[str, set[str]] = {}  # all that a room reaches
    for room in TopologicalSorter(graph).static_order():
        targets = graph.get(room, set())
        below[room] = targets.union(*(below[target] for target in targets))
    return {
        room: {one for one in targets if not any(one in below[other] for other in targets)}
        for room, targets in graph.items()
    }


def rooms(sources: Sequence[Source]) -> dict[str, Room]:
    """The boxes, with the first sentence of each docstring."""
    heads = {source.module: source for source in sources}
    found = {}
    for area in arrows(sources):
        head = heads[f"{PACKAGE}.{area}"]
        families = tuple(_families(sources)) if area == FAMILIES else ()
        found[area] = Room(area, head.is_package, first_sentence(head), families)
    return found


def first_sentence(source: Source) -> str:
    paragraph = (ast.get_docstring(source.tree) or "").split("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph).replace("`", "").rstrip(".")


def _families(sources: Iterable[Source]) -> Iterable[tuple[str, str]]:
    """The folders of the models, each with what it builds on."""
    found: dict[str, set[str]] = {}
    for source in sources:
        family = _family(source.module)
        if family and (source.is_package or source.module.count(".") > 2):
            found.setdefault(family, set()).update({_family(target) for _, target in imports(source)} - {"", family})
    for family, others in sorted(found.items()):
        known = sorted(others & found.keys())
        yield family, f"on {', '.join(known)}" if known else ""


def _family(module: str) -> str:
    parts = [*module.split("."), "", "", ""]
    return parts[2] if parts[:2] == [PACKAGE, FAMILIES] else ""


# ---- where things stand ------------------------------------------------------------------------------------


def layers(graph: Graph) -> dict[str, int]:
    """How many layers there are below each room: 0 for those that import none; those that none imports are on top."""
    found: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        found[room] = max((found[target] + 1 for target in graph.get(room, ())), default=0)
    on_top = graph.keys() - set().union(*graph.values())
    return found | dict.fromkeys(on_top, max(found.values()))


def rows_of(graph: Graph) -> tuple[list[list[Node]], list[list[Node]]]:
    """The layers from top to bottom, in an order that crosses few arrows, and the way of each arrow through them."""
    level = layers(graph)
    ways: list[list[Node]] = []
    for room, targets in sorted(graph.items()):
        for target in sorted(targets):
            bends: list[Node] = [(room, target, one) for one in range(level[room] - 1, level[target], -1)]
            ways.append([room, *bends, target])
    rows: list[list[Node]] = [[] for _ in range(max(level.values()) + 1)]
    for room in sorted(level):
        rows[-1 - level[room]].append(room)
    for way in ways:
        for bend in way[1:-1]:
            rows[-1 - bend[2]].append(bend)
    links = [pair for way in ways for pair in pairwise(way)]
    best = rows
    for sweep in range(SWEEPS):
        rows = _swept(rows, links, upwards=sweep % 2 == 1)
        if crossings(rows, links) < crossings(best, links):
            best = rows
    return best, ways


def _swept(rows: list[list[Node]], links: list[tuple[Node, Node]], *, upwards: bool) -> list[list[Node]]:
    """Every layer in the order of what it is tied to in the layer before."""
    order = rows[::-1] if upwards else rows
    swept = [order[0]]
    for row in order[1:]:
        place = {node: (index + 0.5) / len(swept[-1]) for index, node in enumerate(swept[-1])}

        def middle(node: Node, own: float, place: Mapping[Node, float] = place) -> float:
            ends = [place[up] for up, down in links if down == node and up in place]
            ends += [place[down] for up, down in links if up == node and down in place]
            return sum(ends) / len(ends) if ends else own

        keys = {node: middle(node, (index + 0.5) / len(row)) for index, node in enumerate(row)}
        swept.append(sorted(row, key=lambda node: keys[node]))
    return swept[::-1] if upwards else swept


def crossings(rows: list[list[Node]], links: list[tuple[Node, Node]]) -> int:
    """How many pairs of arrows cross."""
    place = {node: index for row in rows for index, node in enumerate(row)}
    row_of = {node: number for number, row in enumerate(rows) for node in row}
    count = 0
    for number, (up, down) in enumerate(links):
        for other_up, other_down in links[number + 1 :]:
            if row_of[up] == row_of[other_up]:
                count += (place[up] - place[other_up]) * (place[down] - place[other_down]) < 0
    return count


# ---- the drawing -------------------------------------------------------------------------------------------


STYLE = """
  .paper { fill: #ffffff }
  .room { fill: #eef3fa; stroke: #5b7aa5 }
  .file { fill: #f5f5f2; stroke: #8a8a80 }
  .chip { fill: #ffffff; stroke: #9db3d3 }
  .arrow { fill: none; stroke: #5b7aa5; stroke-width: 1.4 }
  .head { fill: #5b7aa5 }
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #44505f }
  .name { font-size: 15px; font-weight: 600; fill: #17212e }
  .family { font-size: 13px; fill: #17212e }
  .small { font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #10151c }
    .room { fill: #1b2735; stroke: #6f93c4 }
    .file { fill: #20221f; stroke: #8d8d83 }
    .chip { fill: #10151c; stroke: #4d688e }
    .arrow { stroke: #7f9fca }
    .head { fill: #7f9fca }
    text { fill: #b4c0cf }
    .name, .family { fill: #f0f4f9 }
  }
"""


def picture(sources: Sequence[Source]) -> str:
    """The house as an SVG, the same for the same imports and docstrings."""
    boxes, bottom = rooms(sources), leaves(sources)
    graph = {room: targets - bottom for room, targets in arrows(sources).items() if room not in bottom}
    rows, ways = rows_of(reduced(graph))
    width = max(_row_width(row, boxes) for row in rows) + 2 * GAP
    left: dict[Node, float] = {}
    top: dict[Node, float] = {}
    y = float(GAP)
    for row in rows:
        x = (width - _row_width(row, boxes)) / 2
        for node in row:
            left[node], top[node] = x, y
            x += _width(node, boxes) + GAP
        y += _row_height(row, boxes) + BETWEEN
    band = list(_leaf_rows([boxes[name] for name in sorted(bottom)], width - 2 * GAP))
    height = y - BETWEEN + 2 * GAP - PAD + sum(max(room.height for room in row) + PAD for row in band)
    size = f'width="{width}" height="{height:g}"'
    heights = {node: float(_row_height(row, boxes)) for row in rows for node in row}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" {size}>',
        "<title>The rooms of Filmstrip and what they import</title>",
        f"<style>{STYLE}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker>',
        f'<rect class="paper" {size} rx="10"/>',
    ]
    parts += _arrows(ways, left, top, heights, boxes)
    for name, room in sorted(boxes.items()):
        if name not in bottom:
            parts += _box(room, left[name], top[name], heights[name])
    y += GAP - BETWEEN
    for row in band:
        tallest = max(room.height for room in row)
        wide = len(row) * (ROOM_WIDTH + PAD) - PAD
        for number, room in enumerate(row):
            parts += _box(room, (width - wide) / 2 + number * (ROOM_WIDTH + PAD), y, tallest)
        y += tallest + PAD
    return "\n".join([*parts, "</svg>", ""])


def _leaf_rows(boxes: Sequence[Room], width: int) -> Iterable[Sequence[Room]]:
    """The leaves in rows of about the same length that fit into a width."""
    if boxes:
        count = math.ceil(len(boxes) / max(1, (width + PAD) // (ROOM_WIDTH + PAD)))
        size = math.ceil(len(boxes) / count)
        yield from (boxes[start : start + size] for start in range(0, len(boxes), size))


def _width(node: Node, boxes: Mapping[str, Room]) -> int:
    return boxes[node].width if isinstance(node, str) else BEND_WIDTH


def _row_width(row: Sequence[Node], boxes: Mapping[str, Room]) -> int:
    return sum(_width(node, boxes) for node in row) + GAP * (len(row) - 1)


def _row_height(row: Sequence[Node], boxes: Mapping[str, Room]) -> int:
    return max(boxes[node].height for node in row if isinstance(node, str))


def _arrows(
    ways: Sequence[Sequence[Node]],
    left: Mapping[Node, float],
    top: Mapping[Node, float],
    heights: Mapping[Node, float],
    boxes: Mapping[str, Room],
) -> Iterable[str]:
    """Each arrow, from the lower edge of a room through its bends to the upper edge of another."""
    center = {node: left[node] + _width(node, boxes) / 2 for node in left}

    def port(room: Node, others: list[Node], other: Node) -> float:
        """Where on the edge of a room an arrow starts or ends: they stand in the order of their other ends."""
        others = sorted(others, key=lambda node: center[node])
        reach = min(_width(room, boxes) - 4 * PAD, 64 * (len(others) - 1))
        share = others.index(other) / (len(others) - 1) - 0.5 if len(others) > 1 else 0
        return center[room] + reach * share

    for way in ways:
        start = port(way[0], [one[1] for one in ways if one[0] == way[0]], way[1])
        end = port(way[-1], [one[-2] for one in ways if one[-1] == way[-1]], way[-2])
        x, y = start, top[way[0]] + heights[way[0]]
        path = f"M{x:.0f} {y:.0f}"
        for node in way[1:]:
            to = end if node == way[-1] else center[node]
            middle = math.floor((y + top[node]) / 2)
            path += f"C{x:.0f} {middle} {to:.0f} {middle} {to:.0f} {top[node]:.0f}"
            x, y = to, top[node]
            if node != way[-1]:
                y += heights[node]
                path += f"V{y:.0f}"
        yield f'<path class="arrow" marker-end="url(#head)" d="{path}"><title>{way[0]} imports {way[-1]}</title></path>'


def _box(room: Room, x: float, y: float, height: float) -> Iterable[str]:
    kind, ending = ("room", "/") if room.is_folder else ("file", ".py")
    yield f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{room.width}" height="{height:g}" rx="6"/>'
    yield f'<text class="name" x="{x + PAD:g}" y="{y + PAD + 13:g}">{escape(room.name + ending)}</text>'
    for number, line in enumerate(room.lines, 1):
        yield f'<text x="{x + PAD:g}" y="{y + PAD + 13 + LINE * number + 2:g}">{escape(line)}</text>'
    top = y + PAD + LINE * (1 + len(room.lines)) + 12
    for number, (name, below) in enumerate(room.families):
        at = x + PAD + number * (CHIP_WIDTH + PAD)
        yield f'<rect class="chip" x="{at:g}" y="{top:g}" width="{CHIP_WIDTH}" height="{CHIP_HEIGHT}" rx="5"/>'
        yield f'<text class="family" x="{at + 8:g}" y="{top + 18:g}">{escape(name)}</text>'
        yield f'<text class="small" x="{at + 8:g}" y="{top + 34:g}">{escape(below)}</text>'


def main(target: Path = PICTURE) -> None:
    target.write_text(picture(package_sources()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

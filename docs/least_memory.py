"""Write the tables of the least memory that each released checkpoint is planned into: `python -m docs.least_memory`.

Checkpoints are of full size and without numbers, made from the descriptions of the published ones in
`tests/models/*/manifests`; their weights are taken to be in bfloat16, and their video is the usual one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.from_families import ROOT
from tests.fitting.sparse import RELEASED, sparse_checkpoint

BEGIN, END = "<!-- written by docs/least_memory.py -->\n", "<!-- end of memory -->\n"
TITLES = {
    "guide.md": ("checkpoint", "its usual video", "least memory of the device", "the stage that needs it"),
    "guide.zh.md": ("模型", "默认视频", "设备所需的最小内存", "最占内存的阶段"),
}


@dataclass(frozen=True)
class Row:
    """What a checkpoint needs at the least."""

    name: str
    video: str
    gigabytes: float
    stage: str

    def cells(self) -> tuple[str, ...]:
        return f"`{self.name}`", self.video, f"{self.gigabytes:.1f} GB", self.stage


def row_of(described: Path) -> Row:
    """The row of a checkpoint, by planning for an accelerator."""
    import torch

    from filmstrip.assembly import Pipeline
    from filmstrip.devices import ACCELERATORS
    from filmstrip.fitting.usual import usual_request
    from filmstrip.jobs.plans import planner_by_headers
    from filmstrip.registry import MADE_INTO_VIDEOS, resolve_class

    with tempfile.TemporaryDirectory() as temporary:
        name = str(sparse_checkpoint(described, Path(temporary) / described.name))
        own = type(Pipeline.outline(name)).__name__
        outline = resolve_class("filmstrip", MADE_INTO_VIDEOS.get(own, own)).outline(name)
        request = usual_request(outline, {})
        planner, _ = planner_by_headers(name, outline, request, torch.device(ACCELERATORS[0]))
        least = planner.least()
    size = request.size
    video = f"{size.width}x{size.height}" + (f", {size.num_frames} frames" if size.num_frames > 1 else "")
    stage = max(least.needs, key=lambda one: least.needs[one])
    return Row(described.name, video, math.ceil(least.memory / 1e8) / 10, stage)


def table(rows: Iterator[Row] | list[Row], titles: tuple[str, ...]) -> str:
    """The rows as Markdown."""
    lines = [titles, ("---",) * len(titles), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def printed(page: str) -> str:
    """The table that stands on a page of the documentation."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def main() -> None:
    rows = []
    for described in RELEASED:
        rows.append(row_of(described))
        print(*rows[-1].cells(), flush=True)
    for page, titles in TITLES.items():
        path = ROOT / "docs" / page
        before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        assert end, f"{page} has no marks for a table"
        path.write_text(f"{before}{BEGIN}\n{table(rows, titles)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

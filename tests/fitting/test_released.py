"""The least memory that each released checkpoint is planned into, with networks of full size."""

from __future__ import annotations

import json

import pytest

from docs.least_memory import TITLES, printed, row_of
from filmstrip.checkpoints import inspect_checkpoint
from tests.fitting.sparse import RELEASED, sparse_checkpoint

# What the issue of small devices asked for; the table says by how much it is met.
AT_MOST = {"ltx-video": 6.0, "cogvideox-5b": 4.0}
ROWS = {page: printed(page).splitlines()[2:] for page in TITLES}


@pytest.mark.parametrize("described", RELEASED, ids=lambda path: path.name)
def test_the_guide_says_what_each_checkpoint_needs(described):
    row = row_of(described)
    assert row.gigabytes <= AT_MOST.get(row.name, 24.0)
    for lines in ROWS.values():
        assert f"| {' | '.join(row.cells())} |" in lines


def test_every_released_checkpoint_has_its_row():
    for lines in ROWS.values():
        assert [line.split("`")[1] for line in lines] == [path.name for path in RELEASED]


def test_a_sparse_checkpoint_is_of_full_size_and_takes_no_room(tmp_path):
    described = next(path for path in RELEASED if path.name == "cogvideox-5b")
    folder = sparse_checkpoint(described, tmp_path / "checkpoint")
    components = {one.name: one for one in inspect_checkpoint(folder).components}
    assert components["transformer"].bytes_per_dtype.keys() == {"bfloat16"}
    assert components["transformer"].bytes_per_dtype["bfloat16"] > 11e9
    assert sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) < 10e6
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "CogVideoXPipeline"

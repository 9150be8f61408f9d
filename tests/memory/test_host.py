"""What loading and running take of the machine's own memory, and what a second call of a pipeline reads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from filmstrip.checkpoints import tensors
from tests.cli.tiny_checkpoint import tiny_pipeline
from tests.fitting.sparse import RELEASED, sparse_checkpoint

LIMITED = """
import sys
from pathlib import Path
import torch
from filmstrip import LTXVideoTransformer3DModel

def anonymous():
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("RssAnon"))

torch.set_num_threads(1)
before = anonymous()
network = LTXVideoTransformer3DModel.from_pretrained(sys.argv[1])
with torch.no_grad():
    network(
        torch.zeros(1, 8, 128, dtype=torch.bfloat16), torch.zeros(1, 4, 4096, dtype=torch.bfloat16),
        torch.tensor([500.0]), torch.ones(1, 4), num_frames=2, height=2, width=2,
    )
print(sum(one.nbytes for one in network.parameters()), anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped and what is not is told apart by /proc")
def test_weights_are_computed_with_where_they_are_mapped(tmp_path):
    described = next(path for path in RELEASED if path.name == "ltx-video")
    folder = sparse_checkpoint(described, tmp_path / "checkpoint") / "transformer"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LIMITED, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    weights, taken = map(int, done.stdout.split())
    assert weights > 3.8e9
    assert taken < 0.1 * weights  # beside what is mapped, which the system drops where it needs the room


def test_a_second_call_loads_nothing(tmp_path, monkeypatch):
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    import filmstrip

    pipe = filmstrip.Pipeline.from_pretrained(tmp_path / "tiny")
    call = {"prompt": "a", "height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 1, "output_type": "pt"}
    weights = {id(one): one.data_ptr() for network in pipe.networks.values() for one in network.parameters()}
    made = [pipe(**call, generator=torch.Generator().manual_seed(0)).frames]
    for name in ("open_file", "read_header", "_map_copy_on_write"):
        monkeypatch.setattr(tensors, name, lambda *_: pytest.fail("a file of weights was opened"))
    made.append(pipe(**call, generator=torch.Generator().manual_seed(0)).frames)
    assert torch.equal(*made)
    assert {id(one): one.data_ptr() for network in pipe.networks.values() for one in network.parameters()} == weights

"""Checkpoints of full size that take no room: their files have headers, and holes in place of numbers."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
RELEASED = sorted(path.parent for path in MODELS.glob("*/manifests/*/model_index.json"))
"""The published checkpoints of which a whole pipeline is described here."""
_SIZES = {"BF16": 2, "F16": 2, "F32": 4}


def sparse_checkpoint(described: Path, folder: Path, dtype: str = "BF16") -> Path:
    """A checkpoint in `folder` with the configurations and tensors that are described, all of one type."""
    shutil.copytree(described, folder, ignore=shutil.ignore_patterns("tensors.json.gz"))
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for name, row in index.items():
        if isinstance(row, list) and row[0] is not None:
            (folder / name).mkdir(exist_ok=True)  # tokenizers are not described
    for tensors in described.glob("*/tensors.json.gz"):
        with gzip.open(tensors, "rt", encoding="utf-8") as file:
            shapes = json.load(file)
        component = folder / tensors.parent.name
        library = "" if "_class_name" in json.loads((component / "config.json").read_text()) else "transformers"
        name = "model.safetensors" if library else "diffusion_pytorch_model.safetensors"
        _write(component / name, shapes, dtype)
    return folder


def _write(path: Path, shapes: dict[str, list[int]], dtype: str) -> None:
    rows, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _SIZES[dtype]
        rows[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(rows).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + end)

"""Weights written to folders, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor, nn

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.files import variant_of
from filmstrip.json_files import shown

logger = logging.getLogger(__name__)

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def save_weights(
    model: nn.Module,
    folder: str | Path,
    *,
    stem: str = "diffusion_pytorch_model",
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
) -> None:
    """Write the parameters and persistent buffers of `model` to safetensors files in `folder`, which is made.

    The files get their names when all of them are complete; those of an earlier save are then removed.

    Args:
        max_shard_size: above it the weights are split over several files with an index, such as "5GB" or a
            number of bytes.
        variant: a word for the file names, such as "fp16".
    """
    folder = Path(folder)
    shards = _split(tensors_to_save(model), parse_size(max_shard_size))
    label = f"{stem}.{variant}" if variant else stem
    names = [f"{label}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [f"{label}.safetensors"]
    with no_half_folder(folder), _appearing_together(folder) as temporary:
        for name, shard in zip(names, shards, strict=True):
            write_tensors(temporary(name), shard)
        if len(shards) > 1:
            index = f"{stem}.safetensors.index.{variant}.json" if variant else f"{stem}.safetensors.index.json"
            temporary(index).write_text(_index(names, shards), encoding="utf-8")
            names.append(index)
    _remove_others(folder, stem, variant, keep=names)


def warn_of_pickles(safe_serialization: bool) -> None:
    """Say that the files will be safetensors to who asked for pickled ones."""
    if not safe_serialization:
        logger.warning("weights are written as safetensors, which every library reads; leave safe_serialization out.")


def parse_size(size: int | str) -> int:
    """Bytes in a size such as "5GB", "200MiB" or 1000."""
    if isinstance(size, int):
        count = size
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)\s*", size.upper())
        count = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if count <= 0:
        raise ValueError(f"a size must be a number of bytes or a text such as '5GB' or '200MB', got {shown(size)}.")
    return count


def tensors_to_save(model: nn.Module) -> dict[str, Tensor]:
    """The state of `model`, tied weights once, under their first name."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.is_meta:
            raise CheckpointError(f"{type(model).__name__} has no value for {name}, so it can't be saved.")
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name.replace("_orig_mod.", "")] = tensor.detach()  # of a block that was compiled by itself
    return state


def _split(state: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def write_tensors(path: Path, shard: Mapping[str, Tensor]) -> None:
    """Write tensors to one safetensors file."""
    from safetensors.torch import save_file

    # Two parameters may be views of one storage, which the format refuses: each is written whole.
    storages = {tensor.untyped_storage().data_ptr() for tensor in shard.values()}
    alone = len(storages) == len(shard)
    tensors = {
        name: tensor.contiguous() if alone and tensor.is_contiguous() else tensor.contiguous().clone()
        for name, tensor in shard.items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def _index(names: list[str], shards: list[dict[str, Tensor]]) -> str:
    content = {
        "metadata": {"total_size": sum(tensor.nbytes for shard in shards for tensor in shard.values())},
        "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


@contextmanager
def no_half_folder(folder: Path) -> Iterator[None]:
    """If what is inside fails, remove the folder that it writes to, unless that was there before."""
    new = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in new[1:]:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _appearing_together(folder: Path) -> Iterator[_Temporary]:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = _Temporary(folder)
    try:
        yield temporary
        for path in temporary.paths:
            path.replace(temporary.final(path))
    finally:
        for path in temporary.paths:
            path.unlink(missing_ok=True)


class _Temporary:
    """Hidden names beside the final ones, so that renaming is within one file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f".{os.getpid()}."
        self.paths: list[Path] = []

    def __call__(self, name: str) -> Path:
        self.paths.append(self.folder / (self.prefix + name))
        return self.paths[-1]

    def final(self, path: Path) -> Path:
        return path.with_name(path.name.removeprefix(self.prefix))


def _remove_others(folder: Path, stem: str, variant: str | None, keep: list[str]) -> None:
    for path in folder.glob(f"{stem}*"):
        is_weights = path.suffix == ".safetensors" or (".safetensors" in path.name and path.suffix == ".json")
        if is_weights and path.name not in keep and variant_of(path.name) == variant:
            path.unlink()

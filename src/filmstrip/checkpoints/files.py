"""The weight files of one component's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from filmstrip.checkpoints.errors import CheckpointError, first_of
from filmstrip.checkpoints.tensors import TensorEntry, TensorFile, open_file

_SHARD = re.compile(r"-\d{5}-of-\d{5}")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_WEIGHTS = re.compile(rf"({'|'.join(STEMS)})\b.*\.(safetensors|bin)$")


class Weights:
    """All tensors of a component, over however many files."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.files: tuple[TensorFile, ...] = tuple(open_file(path) for path in paths)
        self._file_of: dict[str, TensorFile] = {}
        for file in self.files:
            for name in file.entries:
                if name in self._file_of:
                    raise CheckpointError(f"tensor {name} is in {self._file_of[name].path} and in {file.path}.")
                self._file_of[name] = file

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def __getitem__(self, name: str) -> TensorEntry:
        return self._file_of[name].entries[name]

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self._file_of[name].load(name, dtype, device)

    def sizes(self) -> Iterator[tuple[torch.dtype, int]]:
        """Type and size in bytes of every tensor."""
        return ((self[name].dtype, self[name].nbytes) for name in self)

    def __str__(self) -> str:
        first = self.files[0].path
        return str(first) if len(self.files) == 1 else f"{first.parent} ({len(self.files)} files)"


def find_weights(folder: Path, variant: str | None = None, *, variant_required: bool = True) -> tuple[Path, ...]:
    """The files that hold the weights of the component in `folder`, safetensors before `.bin`.

    Args:
        variant: such as "fp16", for the files with that word in their names.
        variant_required: if not, a folder without that variant gives its plain files.

    Raises:
        CheckpointError: there are none, not in that variant, or a file of the set is missing.
    """
    for wanted in (variant,) if variant_required or variant is None else (variant, None):
        for kind in ("safetensors", "bin"):
            for stem in STEMS:
                if found := _find_set(folder, stem, kind, wanted):
                    return found
    raise CheckpointError(_nothing_found(folder, variant))


def choose_files(names: Iterable[str], variant: str | None) -> list[str]:
    """The weight files among `names` that loading that variant would use, their index included.

    Shards are known by their names, so that no index has to be read first.
    """
    names = sorted(names)
    for wanted in dict.fromkeys((variant, None)):
        for kind in ("safetensors", "bin"):
            for stem in STEMS:
                same = [
                    name
                    for name in names
                    if re.match(rf"{stem}[.-]", name) and f".{kind}" in name and variant_of(name) == wanted
                ]
                shards = [name for name in same if _SHARD.search(name) or name.endswith(".json")]
                whole = [name for name in same if name not in shards]
                if whole or shards:
                    return whole or shards
    return []


def variants(folder: Path) -> set[str | None]:
    """The variants in which the weights of `folder` are there; None stands for the plain files."""
    return variants_among(path.name for path in folder.iterdir()) if folder.is_dir() else set()


def variants_among(names: Iterable[str]) -> set[str | None]:
    """`variants`, of a folder's file names."""
    return {variant_of(name) for name in names if _is_weights(name)}


def check_variant(folder: Path, components: Iterable[str], variant: str | None) -> None:
    """Raise CheckpointError if no component of the pipeline's checkpoint has its weights in that variant."""
    there = set().union(*(variants(folder / component) for component in components))
    if variant is not None and variant not in there:
        others = ", ".join(sorted(repr(word) for word in there if word)) or "no variant at all"
        raise CheckpointError(f"no component of {folder} has weights of the variant {variant!r}; it has {others}.")


def _is_weights(name: str) -> bool:
    return bool(_WEIGHTS.match(name) or re.match(rf"({'|'.join(STEMS)})\..*index.*\.json$", name))


def variant_of(name: str) -> str | None:
    """The variant in the name of a weight or index file."""
    name = _SHARD.sub("", name)
    words = name.split(".")[1:]
    rest = [word for word in words if word not in ("safetensors", "bin", "index", "json")]
    return rest[0] if rest else None


def _find_set(folder: Path, stem: str, kind: str, variant: str | None) -> tuple[Path, ...]:
    single = folder / (f"{stem}.{variant}.{kind}" if variant else f"{stem}.{kind}")
    if single.is_file():
        return (single,)
    for name in _index_names(stem, kind, variant):
        if (folder / name).is_file():
            return _shards(folder / name)
    return ()


def _index_names(stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    if variant is None:
        return (f"{stem}.{kind}.index.json",)
    return (
        f"{stem}.{kind}.index.{variant}.json",
        f"{stem}.{kind}.{variant}.index.json",
        f"{stem}.{variant}.{kind}.index.json",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of weight files; download or save it again.") from error
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names files outside its folder ({first_of(outside)}), so it is not loaded.")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{len(missing)} of the {len(names)} files that {index} lists are missing ({first_of(missing)});"
            " download the checkpoint again."
        )
    return tuple(index.parent / name for name in names)


def _nothing_found(folder: Path, variant: str | None) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}."
    there = variants(folder)
    if variant is not None and there:
        others = " or ".join("no variant" if other is None else repr(other) for other in sorted(there, key=str))
        return f"{folder} has no weights of the variant {variant!r}; it has {others}."
    if there:
        names = " or ".join(f"variant={other!r}" for other in sorted(there, key=str) if other)
        return f"the weights in {folder} are there as a variant only; load with {names}."
    return f"{folder} holds no weights: there is no {STEMS[0]}.safetensors, {STEMS[1]}.safetensors, nor a .bin file."

"""The weight files of one component's folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from filmstrip.checkpoints.errors import CheckpointError, first_of
from filmstrip.checkpoints.tensors import TensorEntry, TensorFile, open_file
from filmstrip.files import is_single_part
from filmstrip.json_files import cut, read_object, shown

_SHARD = re.compile(r"-\d{5}-of-\d{5}")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_WEIGHTS = re.compile(rf"({'|'.join(STEMS)})\b.*\.(safetensors|bin)$")


class Weights:
    """All tensors of a component, over however many files.

    Args:
        listed: tensor to the name of its file, as an index says; None if there is none.
    """

    def __init__(self, paths: tuple[Path, ...], listed: Mapping[str, str] | None = None) -> None:
        self.files: tuple[TensorFile, ...] = tuple(open_file(path) for path in paths)
        self._file_of: dict[str, TensorFile] = {}
        for file in self.files:
            for name in file.entries:
                if name in self._file_of:
                    raise CheckpointError(f"tensor {name} is in {self._file_of[name].path} and in {file.path}.")
                self._file_of[name] = file
        if listed is not None:
            self._check_listed(listed)

    def _check_listed(self, listed: Mapping[str, str]) -> None:
        found = {name: file.path.name for name, file in self._file_of.items()}
        if wrong := sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name)):
            name, folder = wrong[0], self.files[0].path.parent
            where = f"is in {found[name]}" if name in found else "is in none of them"
            said = f"in {listed[name]}" if name in listed else "in no file"
            raise CheckpointError(
                f"the files in {folder} are not those of their index: {len(wrong)} tensors lie elsewhere"
                f" ({cut(name, 100)} {where}, the index has it {said}); download the checkpoint again."
            )

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
    return _find(folder, variant, variant_required)[0]


def open_weights(folder: Path, variant: str | None = None, *, variant_required: bool = True) -> Weights:
    """The tensors in the files of `find_weights`, each in the file that an index says, if there is one."""
    return Weights(*_find(folder, variant, variant_required))


_Set = tuple[tuple[Path, ...], "dict[str, str] | None"]


def _find(folder: Path, variant: str | None, variant_required: bool) -> _Set:
    for wanted in (variant,) if variant_required or variant is None else (variant, None):
        for kind in ("safetensors", "bin"):
            for stem in STEMS:
                if (found := _find_set(folder, stem, kind, wanted)) is not None:
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
                is_listed = any(name.endswith(".json") for name in shards)
                if whole or shards:
                    return shards if is_listed else whole or shards
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


def _find_set(folder: Path, stem: str, kind: str, variant: str | None) -> _Set | None:
    # An index decides, also where a whole file of another save lies beside it.
    for name in _index_names(stem, kind, variant):
        if (folder / name).is_file():
            return _shards(folder / name, kind)
    single = folder / (f"{stem}.{variant}.{kind}" if variant else f"{stem}.{kind}")
    return ((single,), None) if single.is_file() else None


def _index_names(stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    if variant is None:
        return (f"{stem}.{kind}.index.json",)
    return (
        f"{stem}.{kind}.index.{variant}.json",
        f"{stem}.{kind}.{variant}.index.json",
        f"{stem}.{variant}.{kind}.index.json",
    )


def _shards(index: Path, kind: str) -> _Set:
    try:
        listed = read_object(index).get("weight_map")
    except ValueError as error:
        raise CheckpointError(f"{index} is not an index of weight files ({error})") from error
    if not (isinstance(listed, dict) and listed and all(isinstance(name, str) for name in listed.values())):
        raise CheckpointError(
            f"{index} is not an index of weight files: its weight_map must name a file for each tensor;"
            " download or save it again."
        )
    names = sorted(set(listed.values()))
    if outside := [name for name in names if not is_single_part(name)]:
        raise CheckpointError(
            f"{index} names files outside its folder ({first_of(list(map(shown, outside)))}), so it is not loaded."
        )
    if others := [name for name in names if not name.endswith(f".{kind}")]:
        raise CheckpointError(f"{index} names files that are no .{kind} ({first_of(others)}), so it is not loaded.")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{len(missing)} of the {len(names)} files that {index} lists are missing ({first_of(missing)});"
            " download the checkpoint again."
        )
    return tuple(index.parent / name for name in names), listed


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

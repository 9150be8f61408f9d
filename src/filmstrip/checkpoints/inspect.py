"""What a checkpoint holds, from its JSON files and the headers of its weights alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.files import open_weights, variants
from filmstrip.checkpoints.hub import Repository
from filmstrip.checkpoints.index import INDEX_NAME, read_json, read_model_index
from filmstrip.checkpoints.locate import check_is_checkpoint, local_folder
from filmstrip.registry import MADE_INTO_VIDEOS, find_family


@dataclass(frozen=True)
class ComponentSummary:
    """One component; a scheduler or a tokenizer has no weights, hence no files here."""

    name: str
    library: str
    class_name: str
    parameters: int
    bytes_per_dtype: dict[str, int]
    """Type name such as "bfloat16" to bytes."""
    files: tuple[Path, ...]
    variants: tuple[str, ...]
    """Other versions of the weights in the folder, such as "fp16"."""

    @property
    def nbytes(self) -> int:
        return sum(self.bytes_per_dtype.values())


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint's pipeline, or the one component it is."""

    name: str
    folder: Path
    pipeline_class: str | None
    family: str | None
    """Title of the family, if Filmstrip has its pipeline."""
    components: tuple[ComponentSummary, ...]
    licence: str | None
    """As the repository's README or licence file says."""

    @property
    def parameters(self) -> int:
        return sum(component.parameters for component in self.components)

    @property
    def nbytes(self) -> int:
        return sum(component.nbytes for component in self.components)


def inspect_checkpoint(
    name: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> CheckpointSummary:
    """Describe a checkpoint without reading a weight; of a hub repository, nothing large is downloaded.

    Raises:
        CheckpointError: there is none, or one of its files is damaged.
    """
    folder, remote = _descriptions(name, revision, variant, cache_dir, token, local_files_only)
    index = read_model_index(folder) if (folder / INDEX_NAME).is_file() else None
    if index is None:
        class_name = str(read_json(folder / "config.json").get("_class_name", "unknown"))
        rows = {"": ("diffusers", class_name)}
    else:
        rows = index.components
        if index.unknown and find_family(MADE_INTO_VIDEOS.get(index.pipeline_class, index.pipeline_class)) is None:
            raise CheckpointError(next(iter(index.unknown.values())))
    components = tuple(_summarize(part, row, folder / part, variant, remote) for part, row in rows.items())
    pipeline_class = index.pipeline_class if index else None
    family = find_family(pipeline_class, str(name))
    title = family.title if family else None
    return CheckpointSummary(str(name), folder, pipeline_class, title, components, _licence(folder))


def _descriptions(
    name: str | Path,
    revision: str | None,
    variant: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    local_files_only: bool,
) -> tuple[Path, Repository | None]:
    """A folder with the text files at least, and the repository that holds the weights if they are not there."""
    if (folder := local_folder(name)) is not None:
        check_is_checkpoint(folder)
        return folder, None
    repository = Repository(str(name), revision, cache_dir, token, local_files_only)
    remote = repository if repository.has_safetensors(variant) else None
    texts = ("*.json", "README.md", "LICENSE*") if remote else None
    folder = repository.fetch(None, variant, texts)
    check_is_checkpoint(folder)
    return folder, remote


def _summarize(
    name: str, row: tuple[str, str], folder: Path, variant: str | None, remote: Repository | None
) -> ComponentSummary:
    library, class_name = row
    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint has no folder {folder}, which its {class_name} should be in.")
    if remote is not None:
        headers = {folder / file: header for file, header in remote.weight_headers(name, variant).items()}
        there = remote.variants(name)
    else:
        there = variants(folder)
        wanted = variant if variant in there else min(there, key=lambda word: word or "", default=None)
        headers = {file.path: file.entries for file in open_weights(folder, wanted).files} if there else {}
    entries = [entry for header in headers.values() for entry in header.values()]
    sizes: Counter[str] = Counter()
    for entry in entries:
        sizes[str(entry.dtype).removeprefix("torch.")] += entry.nbytes
    parameters = sum(prod(entry.shape) for entry in entries)
    others = tuple(sorted(word for word in there if word is not None))
    return ComponentSummary(name, library, class_name, parameters, dict(sizes), tuple(headers), others)


def _licence(folder: Path) -> str | None:
    readme = folder / "README.md"
    if readme.is_file():
        # The front matter of a model card.
        match = re.search(r"\A---\n.*?^license(?:_name)?:\s*(\S+)", readme.read_text("utf-8", "replace"), re.M | re.S)
        if match:
            return match[1]
    for path in sorted(folder.glob("LICENSE*")):
        return next((line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()), None)
    return None

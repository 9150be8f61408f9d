"""What a checkpoint holds, from its JSON files and the headers of its weights alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.files import Weights, find_weights, variants
from filmstrip.checkpoints.index import INDEX_NAME, read_json, read_model_index
from filmstrip.checkpoints.locate import find_checkpoint
from filmstrip.registry import FAMILIES


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
    """Describe a checkpoint without reading a weight.

    Raises:
        CheckpointError: there is none, or one of its files is damaged.
    """
    folder = find_checkpoint(
        name,
        revision=revision,
        variant=variant,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
    )
    if not (folder / INDEX_NAME).is_file():
        class_name = str(read_json(folder / "config.json").get("_class_name", "unknown"))
        alone = _summarize("", "diffusers", class_name, folder, variant)
        return CheckpointSummary(str(name), folder, None, None, (alone,), _licence(folder))
    index = read_model_index(folder)
    components = tuple(
        _summarize(component, library, class_name, folder / component, variant)
        for component, (library, class_name) in index.components.items()
    )
    family = next((f.title for f in reversed(FAMILIES) if index.pipeline_class in f.pipelines.values()), None)
    return CheckpointSummary(str(name), folder, index.pipeline_class, family, components, _licence(folder))


def _summarize(name: str, library: str, class_name: str, folder: Path, variant: str | None) -> ComponentSummary:
    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint has no folder {folder}, which its {class_name} should be in.")
    there = variants(folder)
    paths: tuple[Path, ...] = ()
    parameters = 0
    sizes: Counter[str] = Counter()
    if there:
        wanted = variant if variant in there else min(there, key=lambda word: word or "")
        paths = find_weights(folder, wanted)
        weights = Weights(paths)
        for tensor in weights:
            parameters += prod(weights[tensor].shape)
            sizes[str(weights[tensor].dtype).removeprefix("torch.")] += weights[tensor].nbytes
    others = tuple(sorted(word for word in there if word is not None))
    return ComponentSummary(name, library, class_name, parameters, dict(sizes), paths, others)


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

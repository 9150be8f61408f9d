"""From the name of a checkpoint to its folder on this machine."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.hub import Repository
from filmstrip.registry import BUILTIN_MODELS

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
DESCRIPTIONS = ("model_index.json", "config.json", "*/config.json", "*/scheduler_config.json")
"""The JSON files of a repository that say what it is made of, without its tokenizers'."""
_DESCRIPTIONS = (
    "model_index.json",
    "config.json",
    "scheduler_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
)


def find_checkpoint(
    name: str | Path,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    patterns: Sequence[str] | None = None,
    without: Collection[str] = (),
) -> Path:
    """The local folder of a checkpoint, fetched from the hub if need be.

    Args:
        name: an existing folder, the name of a built-in model, or "org/name" on the hub.
        subfolder: the component of a pipeline's checkpoint, whose folder is returned; "" is the checkpoint itself,
            as one component.
        variant: from the hub, fetch the weight files with that word in their names.
        patterns: from the hub, fetch these files (with * for any text) instead of what a pipeline needs.
        without: from the hub, leave out these components of the pipeline.

    Raises:
        CheckpointError: there is none; the message says what was looked for.
    """
    root = local_folder(name)
    if root is None:
        repository = Repository(str(name), revision, cache_dir, token, local_files_only)
        root = repository.fetch(subfolder, variant, patterns, without)
    folder = root / subfolder if subfolder else root
    if subfolder and not folder.is_dir():
        there = sorted(path.name for path in root.iterdir() if (path / "config.json").is_file())
        raise CheckpointError(f"{root} has no component {subfolder!r}; it has {', '.join(there) or 'none at all'}.")
    check_is_checkpoint(folder)
    return folder


def local_folder(name: str | Path) -> Path | None:
    """The folder that `name` means without the hub, or None if it is a name for the hub."""
    if str(name) in BUILTIN_MODELS and not _is_checkpoint(Path(name)):
        return builtin_folder(str(name))
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        raise CheckpointError(f"{name} is a file; a checkpoint is a folder with a model_index.json or a config.json.")
    if isinstance(name, Path) or not _HUB_NAME.fullmatch(name):
        similar = difflib.get_close_matches(str(name), BUILTIN_MODELS, n=1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"built-in models are {', '.join(BUILTIN_MODELS)}."
        raise CheckpointError(f"there is no folder {str(name)!r}, and it is not a hub name like 'org/name'; {hint}")
    return None


def builtin_folder(name: str) -> Path:
    """The checkpoint of a model that comes with the package."""
    spec = importlib.util.find_spec(BUILTIN_MODELS[name])
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(places[0]) / "weights" if places else None
    if folder is None or not folder.is_dir():
        raise CheckpointError(f"the weights of the built-in model {name!r} are not installed; install Filmstrip again.")
    return folder


def check_is_checkpoint(folder: Path) -> None:
    """Raise CheckpointError if the folder holds neither a pipeline nor a component."""
    if not _is_checkpoint(folder):
        raise CheckpointError(
            f"{folder} is not a checkpoint: it has no model_index.json (a pipeline) and no config.json (a component)."
        )


def _is_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _DESCRIPTIONS)

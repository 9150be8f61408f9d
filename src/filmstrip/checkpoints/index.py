"""model_index.json: which components a pipeline's checkpoint has, and of which classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.files import is_single_part
from filmstrip.json_files import cut, read_object, shown
from filmstrip.registry import check_class
from filmstrip.versions import version_of

INDEX_NAME = "model_index.json"
# Published by some repositories and never loaded: Filmstrip leaves the judgement of pictures to its users.
_NEVER_LOADED = frozenset({"safety_checker"})


@dataclass(frozen=True)
class ModelIndex:
    """The content of a model_index.json, checked."""

    pipeline_class: str
    components: dict[str, tuple[str, str]]
    """Component to (library, class), for those that are there and can be loaded."""
    unknown: dict[str, str]
    """Component to the sentence that says why it can't be loaded: its class is none of ours."""
    absent: tuple[str, ...]
    """Components that the checkpoint leaves out (null)."""
    settings: dict[str, Any]
    """Entries that are no components, such as a flag of the pipeline's constructor."""
    left_out: tuple[str, ...]
    """Components that the checkpoint has, and that are never loaded; they are among the absent ones."""
    defaults: dict[str, Any]
    """Values that the checkpoint proposes for arguments of the pipeline's call ("_defaults")."""


def read_model_index(folder: str | Path) -> ModelIndex:
    """The components of the pipeline's checkpoint in `folder`; entries with an underscore are metadata.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a pipeline's checkpoint: it has no {INDEX_NAME}; a single component is loaded with"
            " its own class."
        )
    content = read_json(path)
    components: dict[str, tuple[str, str]] = {}
    unknown: dict[str, str] = {}
    absent: list[str] = []
    settings: dict[str, Any] = {}
    for name, value in content.items():
        if name.startswith("_"):
            continue
        if not (isinstance(value, list) and len(value) == 2):
            settings[name] = value
        elif value == [None, None] or name in _NEVER_LOADED:
            absent.append(name)
        else:
            _check_folder(path, name)
            library, class_name = value
            if not (isinstance(library, str) and isinstance(class_name, str) and class_name.isprintable()):
                raise CheckpointError(
                    f"{path} must name a library and a class for {name}, got {shown(value)}; download or save it again."
                )
            try:
                check_class(library, class_name)
            except ValueError as error:
                said = f"the class {cut(class_name)} of the library {shown(library)} for {name}"
                unknown[name] = f"{path} names {said}: {error}"
            else:
                components[name] = library, class_name
    class_name, defaults = content.get("_class_name", ""), content.get("_defaults", {})
    if not (isinstance(class_name, str) and isinstance(defaults, dict)):
        what, wrong = ("a text", class_name) if isinstance(defaults, dict) else ("an object", defaults)
        name = "_class_name" if isinstance(defaults, dict) else "_defaults"
        raise CheckpointError(f"{path} must have {what} for {name}, got {shown(wrong)}; download or save it again.")
    return ModelIndex(
        class_name,
        components,
        unknown,
        tuple(absent),
        settings,
        tuple(name for name in absent if content[name] != [None, None]),
        defaults,
    )


def write_model_index(
    folder: str | Path, pipeline_class: str, components: Mapping[str, tuple[str, str] | None], **settings: Any
) -> None:
    """Write the index of a pipeline's checkpoint; a component that is None is written as absent."""
    rows = {name: list(entry) if entry else [None, None] for name, entry in components.items()}
    content = {"_class_name": pipeline_class, "_filmstrip_version": version_of("filmstrip"), **rows, **settings}
    Path(folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    (Path(folder) / INDEX_NAME).write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises:
        CheckpointError: it holds something else, or can't be read.
    """
    try:
        return read_object(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _check_folder(path: Path, name: str) -> None:
    # The name is a folder: it may not lead out of the checkpoint.
    if not is_single_part(name):
        raise CheckpointError(f"{path} names a component {shown(name)}, which is not the name of a folder.")

"""What a family of models says about itself: the value in the `family.py` of its folder.

A `family.py` imports nothing but this file, and the `family.py` of a family that it builds on: it is read to list
names, before anything heavy is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Task:
    """What serves a task of a family, and what to try it with."""

    pipeline: str
    """The public name of the class."""
    checkpoint: str
    """A hub repository, or the name of a built-in model."""


@dataclass(frozen=True)
class Family:
    """One row of `filmstrip models`, and what the house has to know to find and to load what belongs to it."""

    name: str
    title: str
    makes: str
    """What of what, in a few words, for tables."""
    licence: str
    """Under which the weights may be used, in a few words."""
    tasks: Mapping[str, Task]
    """From "text-to-video", ... to what serves it."""
    checkpoints: tuple[str, ...]
    """Hub repositories or built-in names to try first."""
    paper: str = ""
    """Its number at arXiv."""
    order: int = 1000
    """The place in tables; the built-in model that comes first is the command's own choice."""

    public: Mapping[str, str] = field(default_factory=dict)
    """From a public name to the module of the folder that defines it."""
    variants: tuple[Family, ...] = ()
    """Further rows of tables that the same folder serves; all below is said by the first."""
    made_into_videos: Mapping[str, str] = field(default_factory=dict)
    """From a pipeline of pictures that a checkpoint names to the one that makes videos with its components."""
    filed_with_pipeline: Mapping[str, str] = field(default_factory=dict)
    """From a class that lives beside a pipeline, in the reference, to the folder that checkpoints name for it."""
    transformers_networks: tuple[str, ...] = ()
    """Encoders that its checkpoints take from transformers."""
    transformers_processors: tuple[str, ...] = ()
    """Tokenizers and image processors, which hold no weights."""
    builds_on: tuple[str, ...] = ()
    """Folders of other families that this one imports from."""
    is_built_in: bool = False
    """Whether the folder's `weights/` holds a checkpoint, under the family's name."""
    understands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """From what can be said to the words for it, where its checkpoints know only few; empty if they know a language."""
    known_by: str = ""
    """A pattern of the words that name it, none of which shared code may use; its name is a plain word if empty."""
    manifests: tuple[str, ...] = ()
    """Published checkpoints whose tensors its networks are held to have, as the tests' manifests are called."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What published checkpoints were made for: from a pattern of the last part of a name, in small letters, to
    defaults of a call's arguments; `filmstrip.registry.preset_of` reads them."""
    package: str = ""
    """The module path of the folder; the registry fills it in."""

    @property
    def pipelines(self) -> dict[str, str]:
        """From a task to the public name of the class that serves it."""
        return {task: served.pipeline for task, served in self.tasks.items()}

    def is_understood(self, prompt: str) -> bool:
        """Whether a prompt has any word that its checkpoints know."""
        known = {word for words in self.understands.values() for word in words}
        return not known or not known.isdisjoint(re.findall(r"\w+", prompt.lower()))


def imported(module: str, name: str) -> Any:
    """What a module has under a name, imported now.

    Raises:
        ImportError: the import failed. Python takes an AttributeError from a module's `__getattr__` for an unknown
            name, and drops what it says; here it becomes the cause.
    """
    try:
        return getattr(import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"{name} can't be imported from {module}: {error}", name=module) from error


def lazily(package: str) -> Callable[[str], Any]:
    """A family's `__getattr__`: gives the public names of its folder, each loaded when it is first asked for."""

    def find(name: str) -> Any:
        public = {} if name.startswith("__") else import_module(f"{package}.family").FAMILY.public
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return imported(f"{package}.{public[name]}", name)

    return find

"""The tables of public names: what `filmstrip` exports, and which model families there are.

Families are the folders of `filmstrip.models` that have a `family.py`, and of each only that file is read. A folder
elsewhere joins when its parent is put on `filmstrip.models.__path__`, at any time: tables are read when they are used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any

from filmstrip.families import Family, imported
from filmstrip.hushing import hushed
from filmstrip.json_files import cut, shown

_MODELS = "filmstrip.models"
_ASSEMBLY = "filmstrip.assembly"
_MEDIA = "filmstrip.media"
_SCHEDULERS = "filmstrip.schedulers"

_SHARED = {
    "DDIMInverseScheduler": _SCHEDULERS,
    "DDIMScheduler": _SCHEDULERS,
    "DDPMScheduler": _SCHEDULERS,
    "DEISMultistepScheduler": _SCHEDULERS,
    "DPMSolverMultistepScheduler": _SCHEDULERS,
    "DPMSolverSinglestepScheduler": _SCHEDULERS,
    "DiffusionPipeline": _ASSEMBLY,
    "EDMDPMSolverMultistepScheduler": _SCHEDULERS,
    "EDMEulerScheduler": _SCHEDULERS,
    "EulerAncestralDiscreteScheduler": _SCHEDULERS,
    "EulerDiscreteScheduler": _SCHEDULERS,
    "FlowMatchEulerDiscreteScheduler": _SCHEDULERS,
    "FlowMatchHeunDiscreteScheduler": _SCHEDULERS,
    "HeunDiscreteScheduler": _SCHEDULERS,
    "KDPM2AncestralDiscreteScheduler": _SCHEDULERS,
    "KDPM2DiscreteScheduler": _SCHEDULERS,
    "LCMScheduler": _SCHEDULERS,
    "LMSDiscreteScheduler": _SCHEDULERS,
    "PNDMScheduler": _SCHEDULERS,
    "Pipeline": _ASSEMBLY,
    "SASolverScheduler": _SCHEDULERS,
    "TCDScheduler": _SCHEDULERS,
    "UniPCMultistepScheduler": _SCHEDULERS,
    "canny_edges": _MEDIA,
    "export_to_gif": _MEDIA,
    "export_to_video": _MEDIA,
    "load_image": _MEDIA,
    "load_video": _MEDIA,
    "read_metadata": _MEDIA,
}
# Encoders and tokenizers of transformers that checkpoints may have, beside those that a family names.
_NETWORKS = (
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "LlamaModel",
    "LlavaForConditionalGeneration",
    "UMT5EncoderModel",
)
_PROCESSORS = ("LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")

IMAGE_PROCESSOR_KINDS = ("Fast", "Pil")
"""Behind the name of an image processor, whose settings stay the same."""

# Checkpoints written by the reference name its packages; a class that lives beside a pipeline is filed under the
# pipeline's folder there.
_OUR_LIBRARIES = ("diffusers", "filmstrip", "mindone.diffusers")
_TRANSFORMERS_LIBRARIES = ("transformers", "mindone.transformers")


class Table(Mapping[str, str]):
    """A table of the shared folders' rows, `own`, and of those that each family adds."""

    def __init__(self, of_family: Callable[[Family], Mapping[str, str]], own: Mapping[str, str] | None = None) -> None:
        self.own = dict(own or {})
        self._of_family = of_family

    def _rows(self) -> dict[str, str]:
        rows = dict(self.own)
        for family in families():
            rows |= self._of_family(family)
        return rows

    def __getitem__(self, name: str) -> str:
        return self._rows()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())


def families() -> tuple[Family, ...]:
    """All that there are, in the order of tables."""
    return _families(tuple(import_module(_MODELS).__path__))


@lru_cache(maxsize=1)
def _families(path: tuple[str, ...]) -> tuple[Family, ...]:
    import pkgutil
    from importlib.util import find_spec

    found: list[Family] = []
    for folder in pkgutil.iter_modules(path, f"{_MODELS}."):
        if folder.ispkg and find_spec(f"{folder.name}.family") is not None:
            family: Family = import_module(f"{folder.name}.family").FAMILY
            found += [replace(one, package=folder.name) for one in (family, *family.variants)]
    return tuple(sorted(found, key=lambda family: (family.order, family.name)))


def _all_under(names: tuple[str, ...]) -> dict[str, str]:
    return dict.fromkeys(names, "transformers")


def _with_kinds(names: tuple[str, ...]) -> dict[str, str]:
    """Processors, with the names under which versions of transformers write image processors of another backend."""
    kinds = (f"{name}{kind}" for name in names if name.endswith("ImageProcessor") for kind in IMAGE_PROCESSOR_KINDS)
    return _all_under((*names, *kinds))


PUBLIC = Table(lambda one: {name: f"{one.package}.{module}" for name, module in one.public.items()}, _SHARED)
"""Public name to the module that defines it."""

PIPELINES = Table(lambda one: dict.fromkeys(one.pipelines.values(), one.name))
"""Public name of a pipeline class that serves a task to the family."""

BUILTIN_MODELS = Table(lambda one: {one.name: one.package} if one.is_built_in else {})
"""Model that comes with the package to the package folder whose `weights/` holds its checkpoint."""

TRANSFORMERS_NETWORKS = Table(lambda one: _all_under(one.transformers_networks), _all_under(_NETWORKS))
"""Text and image encoders that checkpoints take from transformers, to the library."""

TRANSFORMERS_PROCESSORS = Table(lambda one: _with_kinds(one.transformers_processors), _with_kinds(_PROCESSORS))
"""Tokenizers and image processors, which hold no weights, to the library."""

MADE_INTO_VIDEOS = Table(lambda one: one.made_into_videos)
"""Pipeline of pictures that a checkpoint names to the one that makes videos with its components."""

_FILED_WITH_PIPELINE = Table(lambda one: one.filed_with_pipeline)


def find_family(pipeline_class: str | None, checkpoint: str = "") -> Family | None:
    """The family that has that pipeline; of two that share it, the one whose table names the checkpoint."""
    found = [family for family in families() if pipeline_class in family.pipelines.values()]
    found.sort(key=lambda family: (checkpoint not in family.checkpoints, pipeline_class not in family.public))
    return next(iter(found), None)


def check_related(pipeline_class: str, named: str, checkpoint: object) -> None:
    """See that a pipeline can be of a checkpoint that names another one: of its own family, or one that it builds on.

    Raises:
        ValueError: it is of another family; says which class fits.
    """
    ours, theirs = find_family(pipeline_class), find_family(named)
    if ours is None or theirs is None or ours.package == theirs.package:
        return
    folders = [one.package.rpartition(".")[2] for one in (ours, theirs)]
    if folders[1] not in ours.builds_on and folders[0] not in theirs.builds_on:
        raise ValueError(f"{checkpoint} is a checkpoint of {named}, which {pipeline_class} can't be; load {named}.")


def preset_of(pipeline_class: str, checkpoint: str) -> dict[str, Any]:
    """Defaults of a call's arguments that a published checkpoint was made for, known by its name or its folder's."""
    family = find_family(pipeline_class, checkpoint)
    last = re.split(r"[/\\]", checkpoint.rstrip("/\\"))[-1].lower()
    rows = {} if family is None else family.presets
    return next((dict(preset) for pattern, preset in rows.items() if re.fullmatch(pattern, last)), {})


def canonical_library(library: str) -> str:
    """ "filmstrip" or "transformers", whichever serves the classes of `library` as checkpoints name it.

    Raises:
        ValueError: it is neither; nothing is imported to find out.
    """
    ours = (*_OUR_LIBRARIES, *_FILED_WITH_PIPELINE.values())
    for known, serves in ((ours, "filmstrip"), (_TRANSFORMERS_LIBRARIES, "transformers")):
        if any(library == name or library.startswith(f"{name}.") for name in known):
            return serves
    raise ValueError(f"the library {shown(library)} is not one that checkpoints may name (diffusers, transformers).")


def reference_library(class_name: str) -> str:
    """The library under which a saved checkpoint names one of our classes, so that others can load it too."""
    return _FILED_WITH_PIPELINE.get(class_name, "diffusers")


def check_class(library: str, class_name: str) -> None:
    """Raise ValueError if no class of that name and library may be loaded; imports nothing."""
    if canonical_library(library) == "filmstrip":
        known = {*PUBLIC}
    else:
        known = {*TRANSFORMERS_NETWORKS, *TRANSFORMERS_PROCESSORS}
    if class_name not in known:
        class_name = cut(class_name) if class_name.isprintable() else shown(class_name)
        similar = difflib.get_close_matches(class_name, known, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else "; only known classes are ever loaded."
        raise ValueError(f"Filmstrip has no class {class_name} for the library {shown(library)}{hint}")


def resolve_class(library: str, class_name: str) -> Any:
    """The class that a checkpoint names, imported now.

    Raises:
        ValueError: it is not in the tables above. Nothing outside them is imported, whatever a checkpoint says.
    """
    check_class(library, class_name)
    if canonical_library(library) == "filmstrip":
        return imported(PUBLIC[class_name], class_name)
    # The package resolves its names lazily: only the submodule of this class is imported.
    with hushed():
        return getattr(import_module("transformers"), class_name)

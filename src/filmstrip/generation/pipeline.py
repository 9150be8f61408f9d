"""The base class of every pipeline: loading, placement and saving of its components."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from filmstrip import registry
from filmstrip.checkpoints import CheckpointError, find_checkpoint
from filmstrip.checkpoints.component import load_component, outline_component, save_component
from filmstrip.checkpoints.dtypes import requested_dtype
from filmstrip.checkpoints.index import read_model_index, write_model_index
from filmstrip.devices import parse_device, supports_dtype
from filmstrip.generation.request import Request, complete_arguments

PipelineType = TypeVar("PipelineType", bound="Pipeline")


class Pipeline:
    """Components by name, as the constructor of the subclass lists them, and the folder they came from.

    `Pipeline.from_pretrained` itself returns the pipeline that the checkpoint names.
    """

    defaults: dict[str, Any]
    """Values that a checkpoint, or else the family, gives to arguments left out of a call."""
    family_defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, **components: Any) -> None:
        self.components: dict[str, Any] = components
        self.defaults = dict(self.family_defaults)
        self.name_or_path = ""

    def __getattr__(self, name: str) -> Any:
        components = self.__dict__.get("components", {})
        if name in components:
            return components[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("components", {}):
            self.components[name] = value
        else:
            super().__setattr__(name, value)

    @classmethod
    def from_pretrained(
        cls: type[PipelineType],
        name: str | Path,
        *,
        torch_dtype: Any = None,
        dtype: Any = None,
        mindspore_dtype: Any = None,
        variant: str | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **components: Any,
    ) -> PipelineType:
        """Load a pipeline from a folder, a hub repository or a built-in model.

        Args:
            name: "org/name" on the hub, the path of a folder, or the name of a built-in model.
            torch_dtype: the type of all weights; without it each component keeps its files' own, except that a CPU
                runs float16 files in bfloat16. `dtype` and `mindspore_dtype` are other names of it.
            variant: files with that word in their names where there are such, for example "fp16".
            device: where the weights are put; without it, on the CPU.
            components: ready-made components that replace those of the checkpoint.

        Raises:
            CheckpointError: there is no such checkpoint, it is damaged, or it does not fit this pipeline.
            ValueError: an argument makes no sense.
        """
        wanted = requested_dtype(torch_dtype, dtype, mindspore_dtype)
        place = torch.device("cpu") if device is None else parse_device(device)
        if wanted is not None and not supports_dtype(place, wanted):
            raise ValueError(f"The device {place} can't hold {wanted}; use torch.float32 or another device.")
        folder = find_checkpoint(
            name,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )

        def load(component: str, library: str, class_name: str) -> Any:
            return load_component(library, class_name, folder / component, dtype=wanted, device=place, variant=variant)

        return cls._assemble(name, folder, load, components)

    @classmethod
    def outline(
        cls: type[PipelineType],
        name: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> PipelineType:
        """The pipeline without its weights, from JSON files alone: it answers `request`, and knows its rules.

        Networks have no memory for their weights; encoders and tokenizers of transformers are None.

        Raises:
            CheckpointError: there is no such checkpoint, or it does not fit this pipeline.
        """
        folder = find_checkpoint(
            name,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            patterns=("model_index.json", "*/config.json", "*/scheduler_config.json"),
        )

        def load(component: str, library: str, class_name: str) -> Any:
            if registry.canonical_library(library) == "transformers":
                return None
            return outline_component(library, class_name, folder / component)

        return cls._assemble(name, folder, load, {})

    @classmethod
    def _assemble(
        cls: type[PipelineType],
        name: str | Path,
        folder: Path,
        load: Callable[[str, str, str], Any],
        components: dict[str, Any],
    ) -> PipelineType:
        """The pipeline of a checkpoint's components, those that were brought along and the others as `load` has them.

        Args:
            load: takes a component's name, library and class.
        """
        index = read_model_index(folder)
        pipeline_class = cls._class_for(index.pipeline_class, folder)
        names = pipeline_class.component_names()
        if unknown := sorted(set(components) - set(names)):
            known = f"{pipeline_class.__name__} has {', '.join(names)}"
            raise ValueError(f"{known}; got {', '.join(unknown)} as well.")
        loaded: dict[str, Any] = {}
        for component in names:
            if component in components:
                loaded[component] = components[component]
            elif component in index.components:
                loaded[component] = load(component, *index.components[component])
            elif component in index.absent:
                loaded[component] = None
            else:
                needed_by = pipeline_class.__name__
                raise CheckpointError(f"{name} has no {component}, which {needed_by} needs; pass {component}=... too.")
        pipeline = pipeline_class(**loaded)
        pipeline.defaults |= index.defaults
        pipeline.name_or_path = str(name)
        return pipeline

    @classmethod
    def _class_for(cls: type[PipelineType], class_name: str, folder: Path) -> type[PipelineType]:
        if cls is not Pipeline:
            return cls
        found = registry.resolve_class("filmstrip", class_name)
        if not (isinstance(found, type) and issubclass(found, Pipeline)):
            raise CheckpointError(f"{folder} names {class_name} as its pipeline, which is not one.")
        return cast("type[PipelineType]", found)

    @classmethod
    def component_names(cls) -> tuple[str, ...]:
        """Names of the components that the constructor takes."""
        return tuple(inspect.signature(cls.__init__).parameters)[1:]

    @classmethod
    def from_pipe(cls: type[PipelineType], pipeline: Pipeline, **components: Any) -> PipelineType:
        """A pipeline of this class that shares another one's components, without loading or copying any.

        Args:
            components: replacements, or components that the other one lacks.
        """
        available = {**pipeline.components, **components}
        if missing := [name for name in cls.component_names() if name not in available]:
            raise ValueError(
                f"{cls.__name__} needs {', '.join(missing)}, which {type(pipeline).__name__} lacks; pass it."
            )
        made = cls(**{name: available[name] for name in cls.component_names()})
        made.defaults, made.name_or_path = dict(pipeline.defaults), pipeline.name_or_path
        return made

    def save_pretrained(
        self, folder: str | Path, *, max_shard_size: int | str = "5GB", variant: str | None = None, **_: Any
    ) -> None:
        """Write a checkpoint that `from_pretrained` reads."""
        folder = Path(folder)
        rows: dict[str, tuple[str, str] | None] = {}
        for name, component in self.components.items():
            rows[name] = None
            if component is not None:
                rows[name] = save_component(component, folder / name, max_shard_size=max_shard_size, variant=variant)
        changed = {key: value for key, value in self.defaults.items() if self.family_defaults.get(key) != value}
        settings = {"_defaults": changed} if changed else {}
        write_model_index(folder, type(self).__name__, rows, **settings)

    def request(self, **arguments: Any) -> Request:
        """What a call with these arguments would do: completed with the defaults and checked. Needs no weights.

        Raises:
            ValueError: as the call itself would.
        """
        return self.check(complete_arguments(type(self), arguments, self.defaults))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make; every pipeline has its own."""
        raise NotImplementedError(f"{type(self).__name__} makes no videos; load the pipeline that a checkpoint names.")

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that hold weights."""
        return {name: item for name, item in self.components.items() if isinstance(item, nn.Module)}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next((next(network.parameters()).device for network in self.networks.values()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the first network's weights."""
        return next((next(network.parameters()).dtype for network in self.networks.values()), torch.float32)

    def to(self: PipelineType, *places: Any, device: Any = None, dtype: Any = None) -> PipelineType:
        """Move all networks to a device, to a type, or both, in any order; returns the pipeline itself."""
        for place in (*places, device, dtype):
            if place is None:
                continue
            if isinstance(place, torch.dtype):
                if not supports_dtype(self.device, place):
                    raise ValueError(f"The device {self.device} can't hold {place}; use another type.")
                target: Any = place
            else:
                target = parse_device(place)
            for network in self.networks.values():
                network.to(target)
        return self

    def enable_vae_slicing(self) -> None:
        """Code the videos of a batch one after the other, for less memory."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Code the videos of a batch together again."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Code large pictures in tiles, for less memory."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Code pictures undivided again."""
        self.vae.disable_tiling()

"""The base class of every pipeline: loading and saving of its components."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor

from filmstrip import registry
from filmstrip.assembly.placement import Placement
from filmstrip.assembly.progress import BarSettings
from filmstrip.assembly.runs import Finishing
from filmstrip.checkpoints import CheckpointError, find_checkpoint, revision_of
from filmstrip.checkpoints.component import check_savable, load_component, outline_component, save_component
from filmstrip.checkpoints.dtypes import requested_dtypes
from filmstrip.checkpoints.files import check_variant
from filmstrip.checkpoints.index import INDEX_NAME, read_model_index, write_model_index
from filmstrip.checkpoints.locate import DESCRIPTIONS
from filmstrip.checkpoints.saving import no_half_folder, parse_size, warn_of_pickles
from filmstrip.devices import parse_device, supports_dtype
from filmstrip.fitting.plan import Plan, fit
from filmstrip.fitting.usual import usual_request
from filmstrip.generation.arguments import Arguments, arguments_named, completed, documentation_of
from filmstrip.generation.output import Report, VideoOutput
from filmstrip.generation.request import Request

logger = logging.getLogger(__name__)


PipelineType = TypeVar("PipelineType", bound="Pipeline")


class Pipeline(Finishing, Placement):
    """Components by name, as the constructor of the subclass lists them, and the folder they came from.

    `Pipeline.from_pretrained` itself returns the pipeline that the checkpoint names.
    """

    defaults: dict[str, Any]
    """Values that a checkpoint, or else the family, gives to arguments left out of a call."""
    family_defaults: ClassVar[dict[str, Any]] = {}
    _optional_components: ClassVar[tuple[str, ...]] = ()
    """Components that a checkpoint may leave unmentioned."""
    _left_out: ClassVar[tuple[str, ...]] = ()
    """Components that are not loaded from a checkpoint, since nothing here uses them."""

    arguments: ClassVar[type[Arguments]]
    """What its call takes."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        own = cls.__dict__.get("__call__")
        if own is not None and hasattr(own, "arguments"):
            cls.arguments = own.arguments
            own.__doc__ = documentation_of(own.__doc__, own.arguments, cls.family_defaults)
            own.__qualname__ = f"{cls.__qualname__}.__call__"

    def __init__(self, **given: Any) -> None:
        flags = self.flag_names()
        self.components: dict[str, Any] = {name: value for name, value in given.items() if name not in flags}
        self.flags: dict[str, bool] = {name: bool(value) for name, value in given.items() if name in flags}
        self.defaults = self.usual_defaults()
        self.name_or_path = ""
        self.revision: str | None = None
        self.plan: Plan | None = None
        self.bar = BarSettings()

    def __getattr__(self, name: str) -> Any:
        for table in ("components", "flags"):
            if name in self.__dict__.get(table, {}):
                return self.__dict__[table][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("components", {}):
            said = self._checkpoint_defaults
            self.components[name] = value
            self.defaults = {**self.usual_defaults(), **said}  # another network may have been made for another size
            self._offload_again()
        elif name in self.__dict__.get("flags", {}):
            self.flags[name] = value
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
        use_safetensors: bool | None = None,
        low_cpu_mem_usage: bool = True,
        **components: Any,
    ) -> PipelineType:
        """Load a pipeline from a folder, a hub repository or a built-in model.

        Args:
            name: "org/name" on the hub, the path of a folder, or the name of a built-in model.
            torch_dtype: the type of all weights; without it each component keeps its files' own, except that a CPU
                runs float16 files in bfloat16. A dictionary has a component's type under its name, and that of all
                others under "default". `dtype` and `mindspore_dtype` are other names of it.
            variant: files with that word in their names where there are such, for example "fp16".
            device: where the weights are put; without it, on the CPU.
            use_safetensors, low_cpu_mem_usage: taken from code written for Diffusers, and without effect: safetensors
                come before `.bin` files, and no load needs more memory than the weights.
            components: ready-made components that replace those of the checkpoint, and flags of the constructor.

        Raises:
            CheckpointError: there is no such checkpoint, it is damaged, or it does not fit this pipeline.
            ValueError: an argument makes no sense.
        """
        wanted = requested_dtypes(torch_dtype, dtype, mindspore_dtype)
        place = torch.device("cpu") if device is None else parse_device(device)
        for one in wanted.values():
            if one is not None and not supports_dtype(place, one):
                raise ValueError(f"The device {place} can't hold {one}; use torch.float32 or another device.")
        folder = find_checkpoint(
            name,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            without=(*components, *cls._left_out),
        )

        def load(component: str, library: str, class_name: str) -> Any:
            one = wanted.get(component, wanted["default"])
            item = load_component(library, class_name, folder / component, dtype=one, device=place, variant=variant)
            logger.info("loaded %s (%s) from %s", component, class_name, folder / component)
            return item

        index = read_model_index(folder)
        if unknown := sorted(wanted.keys() - {"default", *index.components, *components}):
            known = ", ".join(sorted(index.components))
            raise ValueError(f"torch_dtype names {', '.join(unknown)}; the checkpoint has {known}, and 'default'.")
        check_variant(folder, index.components.keys() - components.keys(), variant)
        made = cls._assemble(name, folder, load, components)
        listed = {*index.components, *index.unknown, *index.left_out}
        if left_out := [one for one in made._left_out if one in listed and one not in components]:
            logger.warning("%s: %s left out; nothing here uses such a part.", name, " and ".join(left_out))
        return made

    @classmethod
    def outline(
        cls: type[PipelineType],
        name: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        with_encoders: bool = False,
    ) -> PipelineType:
        """The pipeline without its weights, from JSON files alone: it answers `request`, and knows its rules.

        Networks have no memory for their weights; tokenizers of transformers are None, and its encoders too unless
        `with_encoders` asks for them.

        Raises:
            CheckpointError: there is no such checkpoint, or it does not fit this pipeline.
        """
        folder = find_checkpoint(
            name,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            patterns=DESCRIPTIONS,
        )

        def load(component: str, library: str, class_name: str) -> Any:
            if registry.canonical_library(library) == "transformers" and not with_encoders:
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
        names, flags = pipeline_class.component_names(), pipeline_class.flag_names()
        pipeline_class._check_known(components)
        for component in names:
            if component in index.unknown.keys() - {*components, *pipeline_class._left_out}:
                raise CheckpointError(index.unknown[component])
        recorded = {**index.settings, **components}
        loaded: dict[str, Any] = {flag: recorded[flag] for flag in flags if flag in recorded}
        for component in names:
            if component in components:
                loaded[component] = components[component]
            elif component in index.components and component not in pipeline_class._left_out:
                loaded[component] = load(component, *index.components[component])
            elif (
                component in index.absent
                or component in pipeline_class._left_out
                or component in pipeline_class._optional_components
            ):
                loaded[component] = None
            else:
                needed_by = pipeline_class.__name__
                raise CheckpointError(f"{name} has no {component}, which {needed_by} needs; pass {component}=... too.")
        pipeline = pipeline_class(**loaded)
        pipeline.defaults |= registry.preset_of(pipeline_class.__name__, str(name)) | index.defaults
        pipeline.name_or_path, pipeline.revision = str(name), None if Path(name).is_dir() else revision_of(folder)
        return pipeline

    @classmethod
    def _class_for(cls: type[PipelineType], class_name: str, folder: Path) -> type[PipelineType]:
        if cls is not Pipeline:
            registry.check_related(cls.__name__, class_name, folder)
            return cls
        if class_name not in registry.PUBLIC:  # a pipeline of pictures that is not built here
            class_name = registry.MADE_INTO_VIDEOS.get(class_name, class_name)
        try:
            found = registry.resolve_class("filmstrip", class_name)
        except ValueError as error:
            raise CheckpointError(f"{folder / INDEX_NAME} names no pipeline that is known: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Pipeline)):
            raise CheckpointError(f"{folder / INDEX_NAME} names {class_name} as its pipeline, which is not one.")
        return cast("type[PipelineType]", found)

    @classmethod
    def component_names(cls) -> tuple[str, ...]:
        """Names of the components that the constructor takes; its flags are none."""
        return tuple(one.name for one in cls._arguments() if not isinstance(one.default, bool))

    @classmethod
    def flag_names(cls) -> tuple[str, ...]:
        """Names of the switches that the constructor takes, which a checkpoint keeps beside its components."""
        return tuple(one.name for one in cls._arguments() if isinstance(one.default, bool))

    @classmethod
    def _check_known(cls, given: dict[str, Any]) -> None:
        """See that the constructor takes what is given by name."""
        names = cls.component_names()
        if unknown := sorted(set(given) - {*names, *cls.flag_names()}):
            raise ValueError(f"{cls.__name__} has {', '.join(names)}; got {', '.join(unknown)} as well.")

    @classmethod
    def _arguments(cls) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return [one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]

    @classmethod
    def from_pipe(cls: type[PipelineType], pipeline: Pipeline, **components: Any) -> PipelineType:
        """A pipeline of this class that shares another one's components, without loading or copying any.

        Args:
            components: replacements, components that the other one lacks, or flags of the constructor.
        """
        cls._check_known(components)
        available = {**pipeline.components, **pipeline.flags, **components}
        if missing := [name for name in cls.component_names() if name not in available]:
            raise ValueError(
                f"{cls.__name__} needs {', '.join(missing)}, which {type(pipeline).__name__} lacks; pass it."
            )
        names = (*cls.component_names(), *cls.flag_names())
        made = cls(**{name: available[name] for name in names if name in available})
        made.defaults |= pipeline._checkpoint_defaults
        made.name_or_path, made.revision = pipeline.name_or_path, pipeline.revision
        made._offloading = pipeline._offloading
        made._offload_again()
        return made

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        variant: str | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write a checkpoint that `from_pretrained` reads. The arguments are those of a network's `save_pretrained`."""
        warn_of_pickles(safe_serialization)
        folder = Path(folder)
        parse_size(max_shard_size)
        there = {name: component for name, component in self.components.items() if component is not None}
        for component in there.values():
            check_savable(component)
        rows: dict[str, tuple[str, str] | None] = dict.fromkeys(self.components)
        settings = {"_defaults": changed} if (changed := self._checkpoint_defaults) else {}
        with no_half_folder(folder):
            for name, component in there.items():
                rows[name] = save_component(component, folder / name, max_shard_size=max_shard_size, variant=variant)
            write_model_index(folder, type(self).__name__, rows, **self.flags, **settings)

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults; a family whose components say more puts that beside them."""
        return dict(self.family_defaults)

    @property
    def _checkpoint_defaults(self) -> dict[str, Any]:
        """The defaults that the class and the components do not give by themselves."""
        usual = self.usual_defaults()
        return {key: value for key, value in self.defaults.items() if usual.get(key) != value}

    def request(self, **arguments: Any) -> Request[Any]:
        """What a call with these arguments would do: completed with the defaults and checked. Needs no weights.

        Raises:
            ValueError: as the call itself would.
        """
        return self.requested(arguments_named(type(self).arguments, arguments, type(self).__name__))

    def completed(self, arguments: Arguments) -> Arguments:
        """Arguments with the checkpoint's defaults, else the family's, and with what a plan has chosen."""
        arguments = completed(arguments, self.defaults)
        in_turn = arguments.in_turn() if self.plan is not None and self.plan.chosen("guidance") else None
        return arguments if in_turn is None else in_turn

    def fit(
        self,
        memory: int | str | None = None,
        *,
        device: str | torch.device | None = None,
        is_quiet: bool = False,
        **arguments: Any,
    ) -> Plan:
        """Set the pipeline so that a call needs no more than this memory, and as little more time as can be.

        What a call needs is found by going through it without weights, in seconds. The plan may choose the type and
        the residency of the weights, how guidance and feed-forward layers take their input, and how decoding is
        divided; it is told as notes are. A second plan replaces the first, but for the type of the weights.

        Args:
            memory: bytes, or a text such as "8GB", for weights and the work on them; what is free on the device if
                None. A system's and a driver's own needs come on top.
            device: where to work; without it, on the best device.
            arguments: of the call, as far as they differ from the usual: size, frames, number of videos.

        Raises:
            DoesNotFitError: no way needs as little; says what would do.
            ValueError: the call can't be carried out at all.
        """
        place = parse_device(device)
        fit(self, usual_request(self, arguments), place, memory)
        assert self.plan is not None, "fitting makes a plan or raises"
        if not is_quiet:
            logger.warning("This is how it fits:\n%s", self.plan)
        return self.plan

    def check_components(self) -> None:
        """See that the components can do this pipeline's task together.

        Raises:
            ValueError: they were made for another task.
        """

    def finished_latents(self, session: Any, latents: Tensor) -> Tensor:
        """Latents in the shape that users get: as the run leaves them."""
        return latents

    def output(self, frames: Any, report: Report) -> Any:
        """What users get of a run."""
        return VideoOutput(frames, report)

    def check(self, arguments: Any) -> Any:
        """The request that a call's completed arguments make; every pipeline has its own."""
        raise NotImplementedError(f"{type(self).__name__} makes no videos; load the pipeline that a checkpoint names.")

"""One component of a pipeline's checkpoint, of whichever kind its index says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.index import read_json
from filmstrip.checkpoints.loading import build_empty
from filmstrip.checkpoints.locate import DESCRIPTIONS, find_checkpoint
from filmstrip.checkpoints.saving import tensors_to_save
from filmstrip.configuration import Configured
from filmstrip.memory.quantization import check_unquantized
from filmstrip.registry import TRANSFORMERS_NETWORKS, canonical_library, reference_library, resolve_class
from filmstrip.roles import uncompiled


def load_component(
    library: str,
    class_name: str,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    variant: str | None = None,
) -> Any:
    """The network, scheduler, tokenizer or encoder that a model_index.json names as (library, class).

    Args:
        folder: the component's own folder.
        variant: taken where the component has it; its plain files serve otherwise.

    Raises:
        CheckpointError: the folder or something in it is missing, damaged or does not fit.
        ValueError: the class is not one that may be loaded.
    """
    folder = Path(folder)
    _check_there(folder, class_name)
    if canonical_library(library) == "transformers":
        from filmstrip.checkpoints.transformers_components import load_transformers_component

        return load_transformers_component(class_name, folder, dtype=dtype, device=device, variant=variant)
    component_class = _component_class(library, class_name, folder)
    if issubclass(component_class, torch.nn.Module):
        return component_class.load(folder, dtype=dtype, device=device, variant=variant, variant_required=False)
    return component_class.from_folder(folder)


def outline_component(library: str, class_name: str, folder: str | Path) -> Any:
    """The component as its JSON file describes it, a network without memory for its weights; None for a tokenizer.

    Raises:
        CheckpointError: the folder or the file in it is missing or damaged.
    """
    folder = Path(folder)
    _check_there(folder, class_name)
    if canonical_library(library) == "transformers":
        if class_name not in TRANSFORMERS_NETWORKS:
            return None
        from filmstrip.checkpoints.transformers_components import built_empty

        return built_empty(resolve_class(library, class_name), folder)
    component_class = _component_class(library, class_name, folder)
    return build_empty(lambda: component_class.from_folder(folder))


def outline_network(name: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> Any:
    """The network that is a checkpoint of its own, as its JSON file describes it, without memory for its weights.

    Raises:
        CheckpointError: there is none, or it is not one network.
        ValueError: its class is not one that may be loaded.
    """
    folder = find_checkpoint(
        name, subfolder="", patterns=DESCRIPTIONS, revision=revision, local_files_only=local_files_only
    )
    if not (folder / Configured.config_name).is_file():
        raise CheckpointError(f"{name} is not the checkpoint of one network: it has no {Configured.config_name}.")
    class_name = str(read_json(folder / Configured.config_name).get("_class_name"))
    return outline_component("filmstrip", class_name, folder)


def _check_there(folder: Path, class_name: str) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"the checkpoint has no folder {folder}, which its {class_name} should be in.")


def _component_class(library: str, class_name: str, folder: Path) -> Any:
    component_class = resolve_class(library, class_name)
    if not (isinstance(component_class, type) and issubclass(component_class, Configured)):
        raise CheckpointError(f"{class_name} is not a class of components, so {folder} is not loaded as one.")
    return component_class


def convert(network: Any, dtype: torch.dtype) -> None:
    """Have a network in a type, as if it had been loaded in it: parameters that overflow in half types in float32."""
    from filmstrip.checkpoints.transformers_components import name_rules

    is_ours = isinstance(network, Configured)
    rules = network.name_rules() if is_ours else name_rules(network, dtype)
    kept = [
        (module, name, torch.nn.Parameter(parameter.detach().float(), parameter.requires_grad))
        for prefix, module in network.named_modules()
        for name, parameter in module.named_parameters(prefix, recurse=False)
        if rules.keeps(name, dtype)
    ]
    network.to(dtype)
    for module, name, parameter in kept:
        setattr(module, name.rpartition(".")[2], parameter)


def check_savable(component: Any) -> None:
    """See that `save_component` takes a component, before anything is written.

    Raises:
        CheckpointError: it does not.
        ValueError: its weights are quantised.
    """
    component = uncompiled(component)
    is_theirs = type(component).__module__.partition(".")[0] == "transformers"
    if not (isinstance(component, Configured) or is_theirs):
        raise CheckpointError(f"a {type(component).__name__} can't be saved as a component of a checkpoint.")
    if isinstance(component, torch.nn.Module):
        check_unquantized(component, "it can't be saved; save it before, and quantise it after loading")
        tensors_to_save(component)
    if isinstance(component, Configured):
        component.config_text()


def save_component(
    component: Any, folder: str | Path, *, max_shard_size: int | str = "5GB", variant: str | None = None
) -> tuple[str, str]:
    """Write a component to its folder and return what the index has to say about it: (library, class)."""
    check_savable(component)
    component = uncompiled(component)
    class_name = type(component).__name__
    is_network, is_ours = isinstance(component, torch.nn.Module), isinstance(component, Configured)
    if is_network:
        component.save_pretrained(folder, max_shard_size=max_shard_size, variant=variant)
    elif is_ours:
        component.save_config(folder)
    else:
        component.save_pretrained(folder)
    return (reference_library(class_name) if is_ours else "transformers"), class_name

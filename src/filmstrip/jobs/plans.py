"""Plans for a given memory, by what is known of a checkpoint without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from filmstrip.assembly import Pipeline
    from filmstrip.fitting.plan import Plan, Planner
    from filmstrip.generation.request import Request


def plan_by_headers(
    model: str,
    outline: Pipeline,
    request: Request[Any],
    device: torch.device,
    memory: str,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    tell: Callable[[str], None] | None = None,
    access: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Plan, list[str]]:
    """The plan for a request by the JSON files and headers of a checkpoint alone, and what is assumed for it.

    Args:
        tell: told what is tried next.
        access: how the checkpoint is asked for, as `Job.access` has it.

    Raises:
        DoesNotFitError: there is none.
    """
    from filmstrip.fitting.plan import memory_of
    from filmstrip.memory.sizes import in_words

    is_here = _is_here(device)
    if not is_here and memory == "free":
        raise ValueError(f"there is no {device} here whose free memory could be asked; give a size, such as 8GB.")
    size = memory_of(memory, device)
    planner, notes = planner_by_headers(model, outline, request, device, dtype, quantize, tell, access)
    if not is_here:
        notes.insert(0, f"There is no {device} here; this is planned as for one with {in_words(size)}.")
    return planner.plan(size), notes


def planner_by_headers(
    model: str,
    outline: Pipeline,
    request: Request[Any],
    device: torch.device,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    tell: Callable[[str], None] | None = None,
    access: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Planner, list[str]]:
    """What plans a request, and what is assumed; the arguments are those of `plan_by_headers`."""
    import torch

    from filmstrip.checkpoints import inspect_checkpoint
    from filmstrip.checkpoints.dtypes import resolve_dtype
    from filmstrip.devices import free_memory, supports_dtype
    from filmstrip.fitting.host import waiting_bytes_by_headers
    from filmstrip.fitting.plan import Planner

    if tell is not None:
        tell("reading what the checkpoint says of itself")
    half = torch.bfloat16 if supports_dtype(device, torch.bfloat16) else torch.float16
    whole = type(outline).outline(model, with_encoders=True, **access)
    for name, component in whole.components.items():
        if outline.components.get(name) is None and component is not None:
            outline.components[name] = component
    stored: dict[str, torch.dtype] = {}
    in_files: dict[str, dict[torch.dtype, int]] = {}
    summary = inspect_checkpoint(model, **access)
    sizes = {one.name: one.bytes_per_dtype for one in summary.components}
    for name in outline.networks:
        in_files[name] = {getattr(torch, of): size for of, size in sizes.get(name, {}).items()}
        listed = in_files[name].items()
        stored[name] = resolve_dtype(dtype, listed, device) if listed else dtype or half
    if quantize is not None:
        if quantize == "int4":
            raise ValueError("int4 is packed by the device, so it can't be planned without weights; plan int8 or fp8.")
        for name, network in outline.networks.items():
            network.to(stored[name])
        outline.quantize(quantize)
    notes = []
    missing = [name for name, listed in in_files.items() if not listed]
    if missing and dtype is None:
        assumed = str(half).removeprefix("torch.")
        notes.append(f"The weights of {' and '.join(missing)} are not there; {assumed} is assumed.")
    waiting = {
        name: waiting_bytes_by_headers(network, in_files[name], stored[name])
        for name, network in outline.networks.items()
    }
    host = free_memory("cpu") if device.type != "cpu" and _is_here(device) else None
    return Planner(outline, request, device, stored, waiting=waiting, host=host, tell=tell), notes


def _is_here(device: torch.device) -> bool:
    from filmstrip.devices import has_accelerator

    return device.type in ("cpu", "meta") or has_accelerator(device.type)


def device_to_plan_for(name: str | None) -> torch.device:
    """The device that a plan is for, which need not be there: the best one here, or any accelerator if there is none.

    Raises:
        ValueError: there is no such kind of device.
    """
    import torch

    from filmstrip.devices import ACCELERATORS, ANY_ACCELERATOR, best_device, has_accelerator, parse_device

    if name is None or name.lower() == ANY_ACCELERATOR:
        return best_device() if has_accelerator() else torch.device(ACCELERATORS[0])
    return torch.device(name) if name.partition(":")[0] in ACCELERATORS else parse_device(name)


def plan_content(plan: Plan) -> dict[str, Any]:
    """A plan for JSON."""
    return {
        "memory": plan.memory,
        "device": plan.device,
        "choices": [{"kind": one.kind, "said": one.said, "cost": one.cost, "price": one.price} for one in plan.choices],
        "peaks": dict(plan.needs),
        "activations": dict(plan.activations),
        "cost": plan.cost,
        "host": plan.host,
    }

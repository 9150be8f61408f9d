"""Plans for a given memory, by what is known of a checkpoint without its weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from filmstrip.assembly import Pipeline
    from filmstrip.fitting.plan import Plan
    from filmstrip.generation.request import Request


def plan_by_headers(
    model: str,
    outline: Pipeline,
    request: Request[Any],
    device: torch.device,
    memory: str,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    *,
    local_files_only: bool = False,
) -> tuple[Plan, list[str]]:
    """The plan for a request by the JSON files and headers of a checkpoint alone, and what is assumed for it.

    Raises:
        DoesNotFitError: there is none.
    """
    import torch

    from filmstrip.checkpoints import inspect_checkpoint
    from filmstrip.checkpoints.dtypes import resolve_dtype
    from filmstrip.devices import supports_dtype
    from filmstrip.fitting.plan import Planner, memory_of

    half = torch.bfloat16 if supports_dtype(device, torch.bfloat16) else torch.float16
    whole = type(outline).outline(model, with_encoders=True, local_files_only=local_files_only)
    for name, component in whole.components.items():
        if outline.components.get(name) is None and component is not None:
            outline.components[name] = component
    stored: dict[str, torch.dtype] = {}
    missing = []
    summary = inspect_checkpoint(model, local_files_only=local_files_only)
    sizes = {one.name: one.bytes_per_dtype for one in summary.components}
    for name in outline.networks:
        if of_files := sizes.get(name):
            listed = Counter({getattr(torch, of): size for of, size in of_files.items()})
            stored[name] = resolve_dtype(dtype, listed.items(), device)
        else:
            stored[name] = dtype or half
            missing.append(name)
    if quantize is not None:
        if quantize == "int4":
            raise ValueError("int4 is packed by the device, so it can't be planned without weights; plan int8 or fp8.")
        for name, network in outline.networks.items():
            network.to(stored[name])
        outline.quantize(quantize)
    notes = []
    if missing and dtype is None:
        assumed = str(half).removeprefix("torch.")
        notes.append(f"The weights of {' and '.join(missing)} are not there; {assumed} is assumed.")
    return Planner(outline, request, device, stored).plan(memory_of(memory, device)), notes


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
    }

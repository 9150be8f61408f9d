"""`filmstrip models` and `filmstrip env`: what there is to use."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from filmstrip.cli.printing import bytes_of, print_facts, print_json, print_title
from filmstrip.families import Family
from filmstrip.registry import BUILTIN_MODELS, families

_LIBRARIES = ("filmstrip", "torch", "transformers", "safetensors", "huggingface_hub", "numpy", "pillow", "av")


def models(*, is_json: bool) -> None:
    """Print the families."""
    if is_json:
        print_json({"families": [_row(family) for family in families()]})
        return
    for index, family in enumerate(families()):
        if index:
            print()
        print_title(family.title)
        names = [f"{name} (built in)" if name in BUILTIN_MODELS else name for name in family.checkpoints]
        facts = list(family.pipelines.items())
        print_facts([*facts, *(("checkpoints" if number == 0 else "", name) for number, name in enumerate(names))])


def _row(family: Family) -> dict[str, Any]:
    """What is said about a family, for JSON."""
    said = {name: getattr(family, name) for name in ("name", "title", "makes", "licence", "paper", "pipelines")}
    examples = {task: served.checkpoint for task, served in family.tasks.items()}
    return {**said, "checkpoints": family.checkpoints, "examples": examples}


def env(*, is_json: bool) -> None:
    """Print what this machine offers."""
    content = surroundings()
    if is_json:
        print_json(content)
        return
    facts = [(name, number or "not installed") for name, number in content["versions"].items()]
    facts.append(("system", content["system"]))
    for device in content["devices"]:
        memory = f", {bytes_of(device['memory_bytes'])}" if device["memory_bytes"] else ""
        facts.append((device["name"], f"{device['title']}{memory}, {', '.join(device['dtypes'])}"))
    facts += [("threads", str(content["threads"])), ("cache", content["cache"])]
    print_facts(facts)


def surroundings() -> dict[str, Any]:
    """Versions, devices, memory, threads and folders, for JSON."""
    import torch
    from huggingface_hub import constants

    from filmstrip.devices import best_device, summarize_devices

    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "devices": [asdict(device) for device in summarize_devices()],
        "default_device": str(best_device()),
        "threads": torch.get_num_threads(),
        "cache": str(constants.HF_HUB_CACHE),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

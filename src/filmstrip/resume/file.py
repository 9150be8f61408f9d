"""Values as one file of safetensors: the tensors in them as they are, the rest as JSON in the file's header."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from filmstrip import records, registry
from filmstrip.files import partial_path, settle
from filmstrip.json_files import parse_json, shown
from filmstrip.media.levels import to_rgb
from filmstrip.media.opening import open_picture
from filmstrip.media.places import check_file

FORMAT = 2
_KEY, _SEAL = "filmstrip", "sha256"
_LARGEST_HEADER, _DEEPEST = 64 * 2**20, 256
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


class Unwritable(TypeError):
    """A value that can't be written down."""


def write(path: Path, value: Any, of: str = "", *, may_replace: bool = True) -> Path:
    """Write a value to a file, whole or not at all: under another name first, which is then changed.

    Returns:
        Where it is: at another name if there is something at this one which may not be replaced.

    Args:
        of: the public name of the pipeline whose records are in it.

    Raises:
        Unwritable: there is something in it that can't be written down.
        OSError: the disk does not take it.
    """
    tensors: dict[str, Tensor] = {}
    header = sealed({"format": FORMAT, "of": of, "value": _packed(value, "", tensors)}, tensors)
    partial = partial_path(path)
    try:
        try:
            save_file(tensors, partial, metadata={_KEY: header})
        except SafetensorError as error:  # what the system says about a full disk comes as this
            raise OSError(str(error)) from error
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # a file that is renamed before it is on the disk may be empty after a power cut
        return settle(partial, path, may_replace=may_replace)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """The value in a file that `write` wrote, its tensors on the CPU.

    Raises:
        ValueError: the file is none of those, or damaged.
        OSError: there is no such file, or it can't be read.
    """
    if path.exists() and not path.is_dir():
        check_file(path, "unfinished video")  # a pipe would be waited for
    with path.open("rb"):
        pass  # says what is wrong with a path better than safetensors does
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        if header is None:
            raise ValueError("it has tensors of something else")
        content = _opened(header, tensors)
        if content["of"] in registry.PUBLIC:  # its module knows its records
            registry.resolve_class("filmstrip", content["of"])
        return _unpacked(content["value"], tensors)
    except SafetensorError:
        reason = "it is not what the header of a file of tensors says"
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
    except (AttributeError, LookupError, OSError, RuntimeError, TypeError):
        reason = "what it holds does not fit together"
    raise ValueError(f"{path} is cut off, damaged or no file of an unfinished video: {reason}.")


def sealed(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A header with the digest of itself and of all tensors in it, by which damage is found."""
    return json.dumps({**content, _SEAL: _digest(content, tensors)}, allow_nan=False)


def _opened(header: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The content of a header that is whole, and whose tensors are."""
    try:
        content = parse_json(header, largest=_LARGEST_HEADER, deepest=_DEEPEST)
    except ValueError as error:
        raise ValueError(f"its header {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it was written by another version of filmstrip; finish it with that one")
    seal = content.pop(_SEAL, None)
    if seal != _digest(content, tensors):
        raise ValueError("bytes of it have changed since it was written" if seal else "it has no checksum")
    if not isinstance(content.get("of"), str) or "value" not in content:
        raise ValueError("it does not say what it holds")
    return content


def _digest(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_writable(value: Any) -> None:
    """See that `write` takes a value.

    Raises:
        Unwritable: it does not, and why.
    """
    _packed(value, "", {})


def is_light(value: Any) -> bool:
    """Whether `write` takes a value and keeps no tensors of it, nor pictures; found without writing any."""
    if type(value) in (list, tuple):
        return all(map(is_light, value))
    if type(value) in (dict, MappingProxyType):
        return all(map(is_light, value.values()))
    if records.name_of(type(value)) is not None:
        return all(map(is_light, records.values_of(value).values()))
    return value is None or isinstance(value, torch.dtype) or type(value) in (bool, int, float, str)


def _packed(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON. Lists and what JSON has are themselves; all else is an object of one entry, its kind."""

    def keep(tensor: Tensor) -> str:
        name = place or "value"
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return name

    def inner(key: Any, one: Any) -> Any:
        return _packed(one, f"{place}.{key}" if place else str(key), tensors)

    def each(values: Any) -> list[Any]:
        return [inner(index, one) for index, one in enumerate(values)]

    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) is list:
        return each(value)
    if type(value) is tuple:
        return {"tuple": each(value)}
    if isinstance(value, Tensor):
        return {"tensor": keep(value)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
        return {"array": keep(torch.from_numpy(np.ascontiguousarray(value))), "shape": list(value.shape)}
    if isinstance(value, Image.Image):
        return {"picture": keep(_png(value))}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if type(value) in (dict, MappingProxyType):
        return {"dict": [[inner("key", key), inner(key, one)] for key, one in value.items()]}
    name = records.name_of(type(value))
    if name is None:
        raise Unwritable(f"{place or 'the value'} is of the type {type(value).__name__}, which can't be written down.")
    values = {field: inner(field, one) for field, one in records.values_of(value).items()}
    return {"record": name, "values": values}


def _unpacked(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(packed, list):
        return [_unpacked(one, tensors) for one in packed]
    if not isinstance(packed, dict):
        return packed
    if packed.keys() != {"record", "values"} and len(packed) != (2 if "array" in packed else 1):
        raise ValueError(f"it holds {shown(packed)}")
    kind, content = next(iter(packed.items()))
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_unpacked(one, tensors) for one in content)
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy().reshape(packed["shape"])[()]
    if kind == "picture":
        with open_picture(io.BytesIO(tensors[content].numpy().tobytes())) as picture:
            return picture.copy()
    if kind == "dtype":
        found = getattr(torch, content, None)
        if not isinstance(found, torch.dtype):
            raise ValueError(f"it holds the type {shown(content)}")
        return found
    if kind == "dict":
        return {_unpacked(key, tensors): _unpacked(one, tensors) for key, one in content}
    if kind != "record":
        raise ValueError(f"it holds something of the kind {kind!r}")
    return records.made(content, {name: _unpacked(one, tensors) for name, one in packed["values"].items()})


def _png(picture: Image.Image) -> Tensor:
    buffer = io.BytesIO()
    if picture.mode not in _PNG_MODES:
        picture = to_rgb(picture)  # as it would be on its way into a network
    picture.save(buffer, "png", compress_level=1)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)

"""Tensors of weight files: headers first, values mapped or streamed on demand."""

from __future__ import annotations

import mmap
import sys
import weakref
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.json_files import cut, parse_object, shown

_REPAIR = "delete the file and download or save it again."
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_MOST_NUMBERS = 2**59  # of one tensor, so that their bytes can be counted
# Python names the flag from 3.13 on.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_TYPE_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


@dataclass(frozen=True)
class TensorEntry:
    """What a header says about one tensor; `start` counts from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)


_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor's values are mapped from a file, so that they need no memory before they are used."""
    first = tensor.data_ptr()
    starts = ((torch.frombuffer(one, dtype=torch.uint8).data_ptr(), len(one)) for one in _MAPS)
    return any(start <= first < start + length for start, length in starts)


class TensorFile(Protocol):
    """One file of weights."""

    path: Path
    entries: dict[str, TensorEntry]

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tensor in that type on that device, its own to change: no change reaches the file."""


class SafetensorsFile:
    """A safetensors file; a tensor wanted as it is stays on the disk until it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = read_header(path)
        self._map: mmap.mmap | None = None
        self._stream: BinaryIO | None = None
        self._staging = bytearray()

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        entry = self.entries[name]
        if prod(entry.shape) == 0:
            return torch.empty(entry.shape, dtype=dtype, device=device)
        if device.type == "cpu" and dtype == entry.dtype:
            return self._mapped(entry)
        # Moved as stored, and changed there: the stored type is the narrower one where that matters.
        return self._streamed(entry).to(device).to(dtype, copy=device.type == "cpu")

    def _mapped(self, entry: TensorEntry) -> Tensor:
        if self._map is None:
            self._map = _map_copy_on_write(self.path)
            _MAPS.add(self._map)
        tensor = _view(self._map, entry, entry.start)
        # Files of old writers may place tensors at odd addresses.
        return tensor if tensor.data_ptr() % entry.dtype.itemsize == 0 else tensor.clone()

    def _streamed(self, entry: TensorEntry) -> Tensor:
        # Read into one buffer for all tensors, so that the memory stays near that of the result.
        if self._stream is None:
            self._stream = self.path.open("rb", buffering=0)
            largest = max(other.nbytes for other in self.entries.values())
            self._staging = bytearray(largest)
        self._stream.seek(entry.start)
        filled = 0
        with memoryview(self._staging) as buffer:
            while filled < entry.nbytes:
                count = self._stream.readinto(buffer[filled : entry.nbytes])  # type: ignore[attr-defined]
                if not count:
                    raise CheckpointError(f"{self.path} became shorter while it was read; {_REPAIR}")
                filled += count
        return _view(self._staging, entry, 0)

    def __del__(self) -> None:
        if getattr(self, "_stream", None) is not None:
            self._stream.close()  # type: ignore[union-attr]


def open_file(path: Path) -> TensorFile:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    from filmstrip.checkpoints.pickles import TorchFile

    return TorchFile(path)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Name, type, shape and place of every tensor of a safetensors file; no values are read.

    Raises:
        CheckpointError: the file is cut off, or its header does not describe its content.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or size < 8 + length:
            if start[:7] == b"version" or length > _MAX_HEADER_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file; {_REPAIR}")
            raise CheckpointError(f"{path} is cut off: it ends within its header, after {size:,} bytes; {_REPAIR}")
        if length > _MAX_HEADER_BYTES:
            raise CheckpointError(f"{path} is not a safetensors file; {_REPAIR}")
        text = file.read(length)
    try:
        header = parse_object(text, largest=_MAX_HEADER_BYTES)
    except ValueError as error:
        raise CheckpointError(f"the header of {path} is damaged (it {error}); {_REPAIR}") from error
    header.pop("__metadata__", None)
    try:
        entries = {name: _entry(name, fields, 8 + length) for name, fields in header.items()}
    except ValueError as error:
        raise CheckpointError(f"the header of {path} is damaged ({error}); {_REPAIR}") from error
    _check_places(path, entries, 8 + length, size)
    return entries


def dtype_of(name: str) -> torch.dtype:
    """The type that safetensors headers call by that name."""
    dtype = getattr(torch, _TYPE_NAMES.get(name, ""), None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{shown(name)} is not a type of tensors")
    return dtype


def _entry(name: str, fields: Any, data_start: int) -> TensorEntry:
    said = cut(name, 100)
    if not (isinstance(fields, dict) and fields.keys() >= {"dtype", "shape", "data_offsets"}):
        raise ValueError(f"tensor {said} lacks a type, a shape or a place")
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not _are_counts(shape) or prod(filter(None, shape)) >= _MOST_NUMBERS:
        raise ValueError(f"tensor {said} has the shape {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {said} has the place {shown(offsets)}")
    begin, end = offsets
    entry = TensorEntry(dtype_of(fields["dtype"]), tuple(shape), data_start + begin)
    if end - begin != entry.nbytes:
        raise ValueError(f"tensor {said} has {end - begin} bytes where its shape needs {entry.nbytes}")
    return entry


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)


def _check_places(path: Path, entries: dict[str, TensorEntry], position: int, size: int) -> None:
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if entry.start != position:
            raise CheckpointError(f"the header of {path} is damaged (tensor {name} is misplaced); {_REPAIR}")
        position += entry.nbytes
    if size < position:
        raise CheckpointError(f"{path} is cut off: it has {size:,} of {position:,} bytes; {_REPAIR}")
    if size > position:
        raise CheckpointError(f"{path} has {size - position:,} bytes more than its header describes; {_REPAIR}")


def _map_copy_on_write(path: Path) -> mmap.mmap:
    """The file's bytes, read when used; tensors in it may be written to, and the file never changes."""
    with path.open("rb") as file:
        if not hasattr(mmap, "MAP_PRIVATE"):  # on Windows
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        # Reserving nothing for the copies lets a file be larger than the memory of the machine.
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
        return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _view(buffer: mmap.mmap | bytearray, entry: TensorEntry, offset: int) -> Tensor:
    flat = torch.frombuffer(buffer, dtype=entry.dtype, count=prod(entry.shape), offset=offset)
    return flat.view(entry.shape)

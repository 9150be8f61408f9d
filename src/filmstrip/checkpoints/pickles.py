"""The older `.bin` files of weights: pickled, and read so that they can hold tensors, not code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.checkpoints.errors import CheckpointError, first_of, reason_of
from filmstrip.checkpoints.tensors import TensorEntry

_REPAIR = "delete the file and download or save it again."


class TorchFile:
    """A `.bin` file, read by torch's weights-only loader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _load_weights_only(path)
        self.entries = {name: TensorEntry(t.dtype, tuple(t.shape), 0) for name, t in self._tensors.items()}

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tensor in that type on that device."""
        return self._tensors[name].to(device).to(dtype).contiguous()


def _load_weights_only(path: Path) -> dict[str, Tensor]:
    _check_archive(path)
    try:
        state = _unpickled(path)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors, so it is not loaded; use a safetensors file."
            ) from error
        raise CheckpointError(f"{path} can't be read (what is pickled in it is damaged); {_REPAIR}") from error
    except Exception as error:  # of whatever kind: the loader trusts that a file is whole
        raise CheckpointError(f"{path} can't be read ({reason_of(error)}); {_REPAIR}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__} instead of named tensors.")
    if other := [str(name) for name, one in state.items() if not (isinstance(name, str) and _is_tensor(one))]:
        raise CheckpointError(f"{path} holds more than tensors: {first_of(other)}; use a file of weights alone.")
    if larger := [name for name, one in state.items() if one.nbytes > one.untyped_storage().nbytes()]:
        raise CheckpointError(f"{path} has fewer numbers than it says for {first_of(larger)}; {_REPAIR}")
    return state


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        # The format before torch 1.6 can't be mapped.
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """See that an archive, as newer files are, holds no more than it takes on the disk: torch packs nothing."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # a damaged directory ends in errors of many kinds
        raise CheckpointError(f"{path} can't be read (its directory is damaged); {_REPAIR}") from error
    held = sum(part.file_size for part in parts)
    if held > path.stat().st_size or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise CheckpointError(f"{path} is packed: {held:,} bytes would come out of it; save it with torch.save.")


def _is_tensor(value: Any) -> bool:
    is_plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
    return is_plain and not (value.is_quantized or value.is_meta or value.is_nested)

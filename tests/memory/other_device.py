"""A device of its own on a machine without one: its numbers lie in the CPU's memory, and never mix with the CPU's.

Tensors there say that they are on `OTHER`, and an operation refuses tensors of both devices, as on an accelerator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

from filmstrip import devices
from filmstrip.memory import couriers

_tensor, _as_tensor, _aten = torch.tensor, torch.as_tensor, torch.ops.aten
_MAY_MIX = (_aten._to_copy, _aten.copy_)
_TAKE_INDICES = (_aten.index, _aten.index_put_)


class _Module(_DummyBackendModule):
    """What torch and `filmstrip.devices` ask the module of a device for."""

    Event, current_stream = torch.cpu.Event, staticmethod(torch.cpu.current_stream)

    def empty_cache(self) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []

    def get_rng_state(self, device: Any) -> Tensor:
        return torch.get_rng_state()  # numbers there are drawn here

    def set_rng_state(self, state: Tensor, device: Any) -> None:
        torch.set_rng_state(state)


class _Hook(_DummyPrivateUse1Hook):
    """Other tests go on to find no accelerator on this machine."""

    def is_available(self) -> bool:
        return False


_setup_privateuseone_for_python_backend("other", backend_module=_Module(), hook=_Hook())
OTHER = torch.device("other:0")


class There(Tensor):
    """A tensor on the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        settings = {"dtype": held.dtype, "device": OTHER}
        made = Tensor._make_wrapper_subclass(cls, held.shape, held.stride(), held.storage_offset(), **settings)
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"There({self.held})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_for_others(types):
            return NotImplemented
        if func is Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            # An index may be on the CPU; of a list torch makes one where no device in Python can take part.
            args = (args[0], tuple(_tensor(one) if isinstance(one, list) else one for one in index))
        if func is Tensor.new_tensor:
            return _tensor(args[1], dtype=args[0].dtype).to(OTHER)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented if is_for_others(types) else computed(func, args, kwargs or {})


def is_for_others(types: Any) -> bool:
    """Whether there are tensors that hold others, which may be here or there: what is quantised."""
    return any(hasattr(one, "__tensor_flatten__") for one in types)


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device that its tensors are on or that it names."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    is_there = any(isinstance(one, There) for one in tensors)
    aliens = [one for one in tensors if not isinstance(one, There) and one.dim() > 0]
    packet, wanted = func.overloadpacket, kwargs.get("device")
    may_mix = packet in _MAY_MIX or (packet in _TAKE_INDICES and isinstance(args[0], There))
    if is_there and aliens and not may_mix:
        raise RuntimeError(f"{func} was given tensors on {OTHER} and on the CPU")
    if wanted is not None:
        is_there = torch.device(wanted).type == OTHER.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    held_args, held_kwargs = tree_map(lambda one: one.held if isinstance(one, There) else one, (args, kwargs))
    made = func(*held_args, **held_kwargs)
    name = func._schema.name
    if "out" in kwargs or (name.endswith("_") and not name.endswith("__")):
        return kwargs.get("out", args[0])  # changed in place
    return tree_map(lambda one: There(one) if is_there and isinstance(one, Tensor) else one, made)


_libraries = [torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")]
_libraries[0].fallback(lambda func, *args, **kwargs: computed(func, args, kwargs), "PrivateUse1")
for _arange in (_aten.arange.default, _aten.arange.start, _aten.arange.start_step):
    # Otherwise torch makes an empty tensor first and enlarges it, which one that holds another can't see.
    _libraries[1].impl(_arange, lambda *args, _of=_arange, **kwargs: computed(_of, args, kwargs), "PrivateUse1")


def install(monkeypatch: Any) -> None:
    """Have the device found, and functions go another way that copy where no device in Python can take part."""
    monkeypatch.setattr(devices, "ACCELERATORS", (OTHER.type,))
    monkeypatch.setattr(devices, "_NAMES", (OTHER.type, "cpu"))
    monkeypatch.setattr(devices, "_is_available", lambda kind: kind == OTHER.type)
    monkeypatch.setattr(couriers, "pinned_buffer", lambda size: torch.empty(size, dtype=torch.uint8))

    def moving(make: Any) -> Any:
        def made(data: Any, *, device: Any = None, **settings: Any) -> Tensor:
            result = make(data, **settings)
            return result if device is None else result.to(device)

        return made

    monkeypatch.setattr(torch, "tensor", moving(_tensor))
    monkeypatch.setattr(torch, "as_tensor", moving(_as_tensor))
    # A module that is moved gets new parameters, since the old ones can't become of another class.
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)

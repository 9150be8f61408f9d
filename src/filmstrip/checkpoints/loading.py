"""Networks built without memory for their weights, and filled straight from the files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from filmstrip.checkpoints.errors import CheckpointError, first_of
from filmstrip.checkpoints.files import Weights

logger = logging.getLogger(__name__)

ModuleType = TypeVar("ModuleType", bound=nn.Module)
_HALF = (torch.float16, torch.bfloat16)
_UNFILLED = frozenset({torch.empty, torch.rand, torch.randn})
_FILLING = frozenset({"uniform_", "normal_", "trunc_normal_", "fill_", "zero_"})
_SCALING = frozenset({"mul", "__mul__", "__rmul__", "div", "__truediv__", "true_divide"})


# A network of which no files are here: the published ones have up to 2000 tensors.
_MOST_TENSORS = 20_000
_TABLES = frozenset({torch.arange, torch.full, torch.linspace, torch.ones, torch.zeros})
_LARGEST_TABLE = 2**26  # numbers


class _WithoutWeights(TorchFunctionMode):
    """Puts what a checkpoint will fill on the meta device, and leaves computed tables real.

    Layers make their parameters with `torch.empty`, tables come from `arange` and the like: a table that no
    checkpoint holds (a non-persistent buffer) therefore needs no second computation.

    It counts: a network that would never be whole, or hold a table that no machine does, is given up.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._count = most, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _UNFILLED and kwargs.get("device") is None:
            kwargs.pop("generator", None)
            self._count += 1
            if self._count > self._most:
                raise CheckpointError(f"it would have more than {self._most:,} tensors")
            return torch.empty(*args, **kwargs | {"device": "meta"})
        if func in _TABLES and _size_of_table(func, args) > _LARGEST_TABLE:
            raise CheckpointError(f"it would need a table of {_size_of_table(func, args):,} numbers")
        first = args[0] if args else kwargs.get("tensor")
        if isinstance(first, Tensor) and first.is_meta and _only_gives_values(func, first, args):
            # Initial values that nobody sees. torch would do these in Python, and first import a second's worth of it.
            return first
        return func(*args, **kwargs)


def _only_gives_values(func: Callable[..., Any], first: Tensor, args: tuple[Any, ...]) -> bool:
    if getattr(func, "__module__", None) == nn.init.__name__:
        return True
    name = getattr(func, "__name__", "")
    is_scaled = name in _SCALING and first.is_floating_point() and len(args) == 2 and isinstance(args[1], int | float)
    return is_scaled or name in _FILLING


def _size_of_table(func: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """How many numbers a call makes, at the most."""
    numbers = [one for one in args if isinstance(one, (int, float))]
    if func is torch.arange:
        start, end, step = (0, *numbers, 1) if len(numbers) == 1 else (*numbers, 1)[:3] if numbers else (0, 0, 1)
        return round(abs((end - start) / step)) if step else 0
    if func is torch.linspace:
        return numbers[2] if len(numbers) > 2 else 0
    shape = args[0] if args and isinstance(args[0], (list, tuple)) else numbers
    return prod(shape)


def build_empty(build: Callable[[], ModuleType], *, for_weights: Weights | None = None) -> ModuleType:
    """The module that `build` makes, its weights without memory until `fill` gives them values.

    Args:
        for_weights: those that it will be filled with, of which it can't have very many more.

    Raises:
        CheckpointError: it would have more tensors than any network of that kind.
    """
    # Some of a module's tensors are tied, or made and then replaced.
    with _WithoutWeights(_MOST_TENSORS if for_weights is None else 4 * len(for_weights) + 1000):
        return build()


@dataclass
class _Slot:
    """One tensor of a module, under all its names: tied weights share a slot."""

    tensor: Tensor
    names: list[str] = field(default_factory=list)
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)

    def assign(self, value: Tensor) -> None:
        if self.tensor.dim() == 4 and self.tensor.is_contiguous(memory_format=torch.channels_last):
            value = value.contiguous(memory_format=torch.channels_last)  # the network's layout, not the file's
        if isinstance(self.tensor, nn.Parameter):
            value = nn.Parameter(value, requires_grad=self.tensor.requires_grad and value.is_floating_point())
        for module, attribute in self.owners:
            setattr(module, attribute, value)


@dataclass(frozen=True)
class NameRules:
    """How the names and types of a file may differ from the module's; all are regular expressions."""

    renamed: Sequence[tuple[str, str]] = ()
    """Rows (pattern, replacement), applied in turn to a name that the module does not have."""
    ignored: Sequence[str] = ()
    """Tensors of the file that are left out without a word."""
    keep_in_fp32: Sequence[str] = ()
    """Parameters that stay in float32 when the rest is loaded in a half type."""

    def keeps(self, name: str, dtype: torch.dtype) -> bool:
        """Whether a parameter is in float32 where the rest is in this type."""
        return dtype in _HALF and any(re.search(pattern, name) for pattern in self.keep_in_fp32)


def fill(
    model: ModuleType, weights: Weights, *, dtype: torch.dtype, device: torch.device, rules: NameRules | None = None
) -> ModuleType:
    """Give every parameter and persistent buffer of `model` its value from the files, in that type, on that device.

    On a CPU, tensors that are stored in `dtype` are not read but mapped: their pages come from the disk when they
    are first used, and are copied if they are written to. So the files may be replaced or removed meanwhile, as
    saving does, but not be overwritten in place. All other tensors are read one at a time.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape. `model` is then unchanged.
    """
    rules = rules or NameRules()
    slots = _slots(model)
    sources = _match(model, slots, weights, rules)
    for slot, source in sources:
        slot.assign(weights.load(source, _slot_dtype(slot, dtype, rules), device))
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta and buffer.device != device:
                module._buffers[name] = buffer.to(device)
    left = [name for name, tensor in _all_tensors(model) if tensor.is_meta]
    if left and device.type != "meta":
        raise CheckpointError(
            f"{type(model).__name__} has tensors that no checkpoint holds and that its constructor does not compute:"
            f" {first_of(left)}."
        )
    return model


def _all_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _slots(model: nn.Module) -> list[_Slot]:
    slots: dict[int, _Slot] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        persistent = {
            name: buffer for name, buffer in module._buffers.items() if name not in module._non_persistent_buffers_set
        }
        for attribute, tensor in (*module._parameters.items(), *persistent.items()):
            if tensor is not None:
                slot = slots.setdefault(id(tensor), _Slot(tensor))
                slot.names.append(f"{prefix}.{attribute}" if prefix else attribute)
                slot.owners.append((module, attribute))
    return list(slots.values())


def _slot_dtype(slot: _Slot, dtype: torch.dtype, rules: NameRules) -> torch.dtype:
    if not slot.tensor.is_floating_point():
        return slot.tensor.dtype
    if any(rules.keeps(name, dtype) for name in slot.names):
        return torch.float32
    return dtype


def _match(model: nn.Module, slots: list[_Slot], weights: Weights, rules: NameRules) -> list[tuple[_Slot, str]]:
    """Each slot with the name of its tensor in the files."""
    slot_of = {name: slot for slot in slots for name in slot.names}
    sources: dict[int, str] = {}
    unexpected: list[str] = []
    for stored in weights:
        name = known_name(stored, slot_of, rules.renamed)
        if name is None:
            if not any(re.search(pattern, stored) for pattern in rules.ignored):
                unexpected.append(stored)
        elif (other := sources.setdefault(id(slot_of[name]), stored)) != stored:
            _check_same(weights, other, stored)
    missing = [slot.names[0] for slot in slots if id(slot) not in sources]
    if missing or unexpected:
        raise CheckpointError(_misfit(model, weights, missing, unexpected))
    matched = [(slot, sources[id(slot)]) for slot in slots]
    _check_shapes(model, weights, matched)
    return matched


def known_name(stored: str, known: Container[str], renamed: Sequence[tuple[str, str]]) -> str | None:
    """The name among those known that a tensor of a file has in the module, or None."""
    name = stored
    for pattern, replacement in renamed:
        if name in known:
            break
        name = re.sub(pattern, replacement, name)
    return name if name in known else None


def _check_same(weights: Weights, kept: str, other: str) -> None:
    cpu = torch.device("cpu")
    values = [weights.load(name, weights[name].dtype, cpu) for name in (kept, other)]
    if not torch.equal(*values):
        logger.warning("%s: %s and %s are one tensor of the model but differ; the first is used.", weights, kept, other)


def _misfit(model: nn.Module, weights: Weights, missing: list[str], unexpected: list[str]) -> str:
    problems = [
        f"{len(names)} tensors {what} ({first_of(names)})"
        for names, what in ((missing, "of the model are missing"), (unexpected, "of the file are left over"))
        if names
    ]
    return (
        f"{weights} does not fit {type(model).__name__}: {' and '.join(problems)};"
        " the weights belong to another model or version than the config.json beside them."
    )


def _check_shapes(model: nn.Module, weights: Weights, matched: list[tuple[_Slot, str]]) -> None:
    wrong = [
        f"{source} is {_shape(weights[source].shape)} where the model has {_shape(slot.tensor.shape)}"
        for slot, source in matched
        if weights[source].shape != tuple(slot.tensor.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{weights} does not fit {type(model).__name__} as its config.json describes it: {first_of(wrong, 3)}."
        )
    other = [
        f"{source} is stored as {_kind(weights[source].dtype)} where the model has {_kind(slot.tensor.dtype)}"
        for slot, source in matched
        if _kind(weights[source].dtype) != _kind(slot.tensor.dtype)
    ]
    if other:
        raise CheckpointError(
            f"{weights} does not fit {type(model).__name__}: {first_of(other, 3)}; it was changed or packed by a"
            " program that Filmstrip does not know."
        )


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "truth values"
    if dtype.is_complex:
        return "complex numbers"
    return "fractions" if dtype.is_floating_point else "whole numbers"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"

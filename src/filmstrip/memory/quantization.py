"""Quantisation: the weights of linear layers in 8 or 4 bits, by torchao, whose products take them as they are."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.devices import FOUR_BITS
from filmstrip.hushing import hushed
from filmstrip.json_files import shown
from filmstrip.kernels.plain import kind_of
from filmstrip.memory.casting import is_named
from filmstrip.memory.residency import CAST, PLACED, execution_device, rooms
from filmstrip.memory.sizes import in_words, is_quantized, network_bytes

KINDS = {
    "int8": "8-bit whole numbers with a scale for each row",
    "fp8": "8-bit floats (e4m3) with a scale for each row",
    "int4": "4-bit whole numbers with a scale for each 32 of a row",
}
GROUP = 32  # weights of a row that share a scale in 4 bits
_SMALLEST_ROW = 16  # below it scales take what codes save
_INT4_ROWS = 16  # that the CPU's kernel takes at a time
_MARK = "_quantization"


@dataclass(frozen=True)
class Quantization:
    """What became smaller."""

    kind: str
    layers: tuple[str, ...]
    """Names of the layers whose weights are quantised."""
    kept: Mapping[str, str]
    """Names of the other linear layers, and why each is as it was."""
    bytes_before: int
    """Of the whole network."""
    bytes_after: int

    @property
    def bytes_saved(self) -> int:
        """How much smaller the network is."""
        return self.bytes_before - self.bytes_after

    def __str__(self) -> str:
        reasons = Counter(self.kept.values())
        kept = "".join(f", {count} kept {reason}" for reason, count in reasons.items())
        return (
            f"{self.kind}: {len(self.layers)} of {len(self.layers) + len(self.kept)} linear layers{kept};"
            f" {in_words(self.bytes_after)} instead of {in_words(self.bytes_before)}"
        )


def quantize(network: nn.Module, kind: str, kept: Sequence[str] = ()) -> Quantization:
    """Store the weights of a network's linear layers in fewer bits, where they are; it computes in its type as before.

    Args:
        kind: one of `KINDS`.
        kept: regular expressions of the names of layers that stay as they are.

    Raises:
        ImportError: torchao is not there.
        ValueError: nothing would become smaller, the device can't do it, or the network is not as it was loaded.
    """
    chosen, spared = layers_to_quantize(network, kind, kept)
    quantization = _torchao("torchao.quantization")
    config = _config(quantization, kind, next(iter(chosen.values())).weight.device)
    before = network_bytes(network)
    with torch.inference_mode(False), torch.no_grad(), hushed():
        quantization.quantize_(network, config, filter_fn=lambda module, name: name in chosen)
    for layer in chosen.values():
        assert is_quantized(layer.weight), "layers that torchao would leave are not chosen"
        layer.weight.requires_grad_(False)
    report = Quantization(kind, tuple(chosen), spared, before, network_bytes(network))
    network.__dict__[_MARK] = report
    return report


def quantization_of(network: nn.Module) -> Quantization | None:
    """What was quantised of a network; None if nothing was."""
    report: Quantization | None = network.__dict__.get(_MARK)
    return report


def layers_to_quantize(
    network: nn.Module, kind: str, kept: Sequence[str] = ()
) -> tuple[dict[str, nn.Linear], dict[str, str]]:
    """The layers that `quantize` would change by name, and why it would not the others.

    Raises:
        ImportError, ValueError: as `quantize`.
    """
    name = type(network).__name__
    if (present := quantization_of(network)) is not None:
        raise ValueError(f"{name} is quantised already, as {present.kind}; load it again to choose another kind.")
    if rooms(network, CAST):
        raise ValueError(f"{name} is stored in a narrow type already; load it again to quantise it.")
    if rooms(network, PLACED):
        raise ValueError(f"{name} is offloaded already; call quantize first, or remove_all_hooks.")
    linears = {at: one for at, one in network.named_modules() if isinstance(one, nn.Linear)}
    dtypes = {one.weight.dtype for one in linears.values()}
    check_kind(kind, execution_device(network), next(iter(dtypes)) if len(dtypes) == 1 else None)
    owners = Counter(id(tensor) for _, tensor in network.named_parameters(remove_duplicate=False))
    reasons = {
        at: reason for at, layer in linears.items() if (reason := _reason_to_keep(at, layer, kind, kept, owners))
    }
    if len(reasons) == len(linears):
        counts = Counter(reasons.values())
        why = f": {', '.join(f'{count} kept {reason}' for reason, count in counts.items())}" if counts else ""
        raise ValueError(
            f"no weight of {name} would become smaller as {kind}: it has {len(linears)} linear layers{why}."
        )
    return {at: layer for at, layer in linears.items() if at not in reasons}, reasons


def check_kind(kind: str, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """See that weights can be quantised like this on a device.

    Args:
        dtype: that they have now, if it is known.

    Raises:
        ImportError: torchao is not there.
        ValueError: there is no such kind, or the device has no product for it.
    """
    if kind not in KINDS:
        raise ValueError(f"weights are quantised as {', '.join(KINDS)}; got {shown(kind)}.")
    if kind == "int4":
        if device.type not in FOUR_BITS:
            raise ValueError(f"int4 needs a device of {' or '.join(FOUR_BITS)}, got {device}; use int8 or fp8.")
        if device.type != "cpu" and dtype not in (None, torch.bfloat16):
            raise ValueError(f"int4 on {device} computes in torch.bfloat16, the weights are {dtype}; load them so.")
    _torchao("torchao.quantization")


def check_movable(network: nn.Module, device: torch.device) -> None:
    """See that a network's weights can come to a device.

    Raises:
        ValueError: they were packed for the kind of device where they were quantised.
    """
    report, here = quantization_of(network), execution_device(network)
    if report is not None and report.kind == "int4" and here.type != device.type:
        raise ValueError(
            f"{type(network).__name__} is quantised as int4, which is packed for {here.type}, so it can't come to"
            f" {device}; quantise it there, or as int8."
        )


def check_unquantized(network: nn.Module, what: str) -> None:
    """See that a network has ordinary weights, which something needs.

    Raises:
        ValueError: it is quantised.
    """
    if (report := quantization_of(network)) is not None:
        raise ValueError(f"{type(network).__name__} is quantised as {report.kind}, so {what}.")


def dequantized(tensor: Tensor) -> Tensor:
    """The numbers that a quantised weight stands for; any other tensor itself."""
    if not is_quantized(tensor):
        return tensor
    identity = torch.eye(tensor.shape[1], dtype=tensor.dtype, device=tensor.device)
    with torch.no_grad():
        return F.linear(identity, tensor).t().contiguous()


def ordinary_copy(network: nn.Module) -> nn.Module:
    """A copy of a network with ordinary weights, where it is."""
    tensors = (tensor for tensor in network.parameters() if is_quantized(tensor))
    copied = copy.deepcopy(network, {id(one): nn.Parameter(dequantized(one), requires_grad=False) for one in tensors})
    copied.__dict__.pop(_MARK, None)
    return copied


def _reason_to_keep(name: str, layer: nn.Linear, kind: str, kept: Sequence[str], owners: Counter[int]) -> str:
    """Why a layer stays as it is, as the end of "3 kept ..."; empty if it does not."""
    if is_named(name, kept):
        return "as sensitive"
    if kind_of(layer) is not nn.Linear:
        return "as a layer of another kind"
    if owners[id(layer.weight)] > 1:
        return "as tied to another"
    rows, columns = layer.weight.shape
    if columns < _SMALLEST_ROW or (kind == "int4" and (columns % GROUP or rows % _INT4_ROWS)):
        return "for their shape"
    return ""


def _config(quantization: Any, kind: str, device: torch.device) -> Any:
    quiet = {"set_inductor_config": False}  # what compiles is not ours to set
    if kind == "int8":
        return quantization.Int8WeightOnlyConfig(**quiet)
    if kind == "fp8":
        return quantization.Float8WeightOnlyConfig(**quiet)
    if device.type != "cpu":
        return quantization.Int4WeightOnlyConfig(GROUP, int4_packing_format="tile_packed_to_4d", **quiet)
    workflow = _torchao("torchao.prototype.quantization.int4.inference_workflow")
    return workflow.PrototypeInt4WeightOnlyConfig(GROUP, **quiet)


def _torchao(module: str) -> Any:
    try:
        with hushed():
            return import_module(module)
    except ImportError as error:
        raise ImportError(
            "weights are quantised by torchao, which is not there, or not in the version that is needed:"
            " pip install 'filmstrip[quantize]'."
        ) from error

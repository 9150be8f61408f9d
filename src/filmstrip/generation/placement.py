"""Where a pipeline's networks are, in which type, and what they trade for memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from filmstrip.checkpoints.component import convert
from filmstrip.checkpoints.dtypes import warn_of_overflow
from filmstrip.checkpoints.mapping import map_to_disk
from filmstrip.devices import empty_cache, parse_device, supports_dtype
from filmstrip.memory.casting import compute_dtype_of
from filmstrip.memory.offloading import check_group_arguments, computing_device, group_grain, offload, tell_once
from filmstrip.memory.quantization import (
    Quantization,
    check_movable,
    check_unquantized,
    layers_to_quantize,
    quantization_of,
    quantize,
)
from filmstrip.memory.residency import Grain, execution_device, release, remove
from filmstrip.network import Model
from filmstrip.roles import Role, role_of

PlacedType = TypeVar("PlacedType", bound="Placement")


@dataclass(frozen=True)
class _Offloading:
    """How a pipeline's networks are offloaded, for those that it is given later."""

    device: torch.device
    grain: Grain
    streamed: bool = False
    whole: frozenset[str] = frozenset()
    """Networks that are on the device all the time."""
    in_blocks: frozenset[str] = frozenset()
    """Networks that come in blocks where the others come whole."""


class Placement:
    """The part of a pipeline that moves its networks."""

    components: dict[str, Any]
    roles: ClassVar[Mapping[str, Role]] = {}
    """What components are for, where their names don't say it."""
    _exclude_from_cpu_offload: ClassVar[tuple[str, ...]] = ()
    """What Diffusers calls the components that its offloading must leave alone: there are none here."""
    _offloading: _Offloading | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that hold weights."""
        return {name: item for name, item in self.components.items() if isinstance(item, nn.Module)}

    def named(self, role: Role) -> tuple[str, ...]:
        """The names of the components that are there for something."""
        return tuple(name for name in self.components if role_of(name, self.roles) is role)

    @property
    def _work_together(self) -> tuple[str, ...]:
        """Networks that are called in turns, and so stay on the device side by side when whole components come and go.

        A pipeline whose networks that denoise take turns only once in a run says so by an empty tuple.
        """
        return self.named(Role.DENOISER)

    @property
    def device(self) -> torch.device:
        """Where the networks are: if they are offloaded, where they wait."""
        return next((next(network.parameters()).device for network in self.networks.values()), torch.device("cpu"))

    @property
    def _execution_device(self) -> torch.device:
        """Where the networks compute."""
        return next((execution_device(network) for network in self.networks.values()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type that the first network computes in."""
        for network in self.networks.values():
            return compute_dtype_of(network) or next(network.parameters()).dtype
        return torch.float32

    def to(self: PlacedType, *places: Any, device: Any = None, dtype: Any = None) -> PlacedType:
        """Move all networks to a device, to a type, or both, in any order; returns the pipeline itself.

        Raises:
            ValueError: there is no such device, it can't hold the type, or the networks are offloaded.
        """
        for place in (*places, device, dtype):
            if place is None:
                continue
            if isinstance(place, torch.dtype):
                if not supports_dtype(self._execution_device, place):
                    raise ValueError(f"The device {self._execution_device} can't hold {place}; use another type.")
                if narrow := [name for name, one in self.networks.items() if compute_dtype_of(one) is not None]:
                    raise ValueError(f"{' and '.join(narrow)} is stored in a narrow type; choose {place} when loading.")
                for network in self.networks.values():
                    check_unquantized(network, f"it stays as it is; load it in {place}, and quantise it then")
                for network in self.networks.values():
                    warn_of_overflow(next(network.parameters()).dtype, place)
                    release(network)
                    convert(network, place)
            else:
                target = parse_device(place)
                for network in self.networks.values():
                    check_movable(network, target)
                if self._offloading is not None:
                    raise ValueError(
                        f"The weights are offloaded, and come to {self._offloading.device} when they are used;"
                        f" call remove_all_hooks() before moving them to {target}, or leave that out."
                    )
                for network in self.networks.values():
                    release(network)
                    network.to(target)
        return self

    # ---- quantisation ----------------------------------------------------------------------------------------------

    def quantize(self, kind: str, components: str | Sequence[str] | None = None) -> dict[str, Quantization]:
        """Store the weights of linear layers in fewer bits; what is computed is in the same type as before.

        Each family keeps the layers that it names as sensitive. Types can't be changed and nothing can be saved
        afterwards; offloading and `fit` come after it.

        Args:
            kind: "int8", "fp8" or "int4"; the last is packed for the device where the weights are.
            components: names of networks, such as "text_encoder"; None quantises those that denoise.

        Returns:
            For each network what became smaller, what did not and why, and the bytes saved; printable.

        Raises:
            ImportError: torchao is not installed.
            ValueError: there is no such kind or network, a network would not become smaller, or is offloaded already.
        """
        names = [components] if isinstance(components, str) else components
        if names is None:
            names = [name for name in self.named(Role.DENOISER) if name in self.networks]
        if not names or (unknown := sorted(set(names) - self.networks.keys())):
            said = f"there is no {', '.join(unknown)}" if names else "no network here denoises"
            raise ValueError(f"{said}; components to quantise are some of {', '.join(self.networks)}.")
        for name in names:
            layers_to_quantize(self.networks[name], kind, _sensitive(self.networks[name]))
        for name in names:
            network = self.networks[name]
            network.quantize(kind) if isinstance(network, Model) else quantize(network, kind, _sensitive(network))
        return {name: report for name, report in self.quantized.items() if name in names}

    @property
    def quantized(self) -> dict[str, Quantization]:
        """For each network whose weights are quantised, what was done."""
        reports = {name: quantization_of(network) for name, network in self.networks.items()}
        return {name: report for name, report in reports.items() if report is not None}

    # ---- offloading ------------------------------------------------------------------------------------------------

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: str | torch.device | None = None) -> None:
        """Keep the weights on the CPU; the component that works is on the device, whole, and then makes room.

        It replaces any other offloading. On a machine without an accelerator nothing changes.

        Args:
            gpu_id: the number of the device, if there are several.
            device: where to compute; without it, on the best accelerator.
        """
        self._offload(_Offloading(_numbered(device, gpu_id), Grain("components")))

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: str | torch.device | None = None
    ) -> None:
        """Keep the weights on the CPU; each layer's come to the device when it works: least memory, most time.

        It replaces any other offloading. The arguments are those of `enable_model_cpu_offload`.
        """
        self._offload(_Offloading(_numbered(device, gpu_id), Grain("leaves")))

    def enable_group_offload(
        self,
        onload_device: str | torch.device,
        offload_device: str | torch.device = "cpu",
        offload_type: str = "block_level",
        num_blocks_per_group: int | None = None,
        non_blocking: bool = False,
        use_stream: bool = False,
        record_stream: bool = False,
        low_cpu_mem_usage: bool = False,
        offload_to_disk_path: str | Path | None = None,
        exclude_modules: str | Sequence[str] | None = None,
    ) -> None:
        """Keep the weights on the CPU; groups of blocks come to the device when they work.

        It replaces any other offloading. On a machine without an accelerator nothing changes.

        Args:
            onload_device: where to compute.
            offload_device: "cpu".
            offload_type: "block_level" for groups of blocks, or "leaf_level" for one layer at a time.
            num_blocks_per_group: 1 if None. What lies outside of blocks stays as long as its component works.
            use_stream: copy the next group while one computes; two are on the device then, and two buffers of a
                group's size in pinned memory.
            non_blocking, record_stream, low_cpu_mem_usage: without effect; taken from code written for Diffusers.
            offload_to_disk_path: a folder to which weights are written that do not lie in files yet, so that none
                needs memory while it waits; those loaded in the type of their files lie there already.
            exclude_modules: components that are put on the device as they are.

        Raises:
            ValueError: an argument makes no sense.
        """
        idle = {"non_blocking": non_blocking, "record_stream": record_stream, "low_cpu_mem_usage": low_cpu_mem_usage}
        device = check_group_arguments(onload_device, offload_device, use_stream, **idle)
        whole = {exclude_modules} if isinstance(exclude_modules, str) else set(exclude_modules or ())
        if unknown := sorted(whole - self.components.keys()):
            names = ", ".join(self.networks)
            raise ValueError(f"exclude_modules names {', '.join(unknown)}; the networks here are {names}.")
        grain = group_grain(offload_type, num_blocks_per_group)
        if offload_to_disk_path is not None:
            for name, network in self.networks.items():
                release(network)
                map_to_disk(network, Path(offload_to_disk_path) / f"{name}.safetensors")
        self._offload(_Offloading(device, grain, use_stream, frozenset(whole)))

    def offload_by_size(self, device: str | torch.device, in_blocks: Collection[str] = ()) -> None:
        """As `enable_model_cpu_offload`, but for networks too large for the device: those come block by block.

        Args:
            in_blocks: their names.
        """
        self._offload(_Offloading(_numbered(device, None), Grain("components"), in_blocks=frozenset(in_blocks)))

    def _offload(self, how: _Offloading) -> None:
        self.remove_all_hooks()
        given = {name: one for name, one in self.networks.items() if name not in how.whole}
        but = dict.fromkeys(how.in_blocks, Grain("blocks"))
        if offload(given, how.device, how.grain, streamed=how.streamed, together=self._work_together, but=but):
            self._offloading = how
            for name in how.whole & self.networks.keys():
                self.networks[name].to(how.device)

    def _offload_again(self) -> None:
        """Offload what has become part of the pipeline as the rest."""
        if self._offloading is not None:
            self._offload(self._offloading)

    def remove_all_hooks(self) -> None:
        """End all offloading; the weights are where they waited, and `to` moves them."""
        for network in self.networks.values():
            remove(network)
        self._offloading = None

    def maybe_free_model_hooks(self) -> None:
        """Send all offloaded weights home, as the end of every run does."""
        for network in self.networks.values():
            release(network)
        if self._offloading is not None:
            empty_cache(self._offloading.device)

    # ---- switches --------------------------------------------------------------------------------------------------

    def enable_attention_slicing(self, slice_size: int | str | None = "auto") -> None:
        """Nothing, for code written for Diffusers: attention never holds its whole table of scores here."""
        tell_once("Attention is memory-efficient already, sliced or not: enable_attention_slicing changes nothing.")

    def disable_attention_slicing(self) -> None:
        """Nothing, as `enable_attention_slicing`."""

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Nothing, as `enable_attention_slicing`."""
        tell_once("Attention is memory-efficient already, without xformers: enabling that changes nothing.")

    def disable_xformers_memory_efficient_attention(self) -> None:
        """Nothing, as `enable_attention_slicing`."""

    def enable_vae_slicing(self) -> None:
        """Code the videos of a batch one after the other, for less memory."""
        for name in self.named(Role.AUTOENCODER):
            self.components[name].enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Code the videos of a batch together again."""
        for name in self.named(Role.AUTOENCODER):
            self.components[name].disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Code large pictures in tiles, for less memory."""
        for name in self.named(Role.AUTOENCODER):
            self.components[name].enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Code pictures undivided again."""
        for name in self.named(Role.AUTOENCODER):
            self.components[name].disable_tiling()


def _sensitive(network: nn.Module) -> tuple[str, ...]:
    """Patterns of the layers whose weights are not quantised; encoders of transformers have none."""
    return getattr(network, "keep_precise", ())


def _numbered(device: str | torch.device | None, index: int | None) -> torch.device:
    """A device that is given by its name, its number or both.

    Raises:
        ValueError: there is no such device, or two numbers were given.
    """
    parsed = computing_device(device)
    if index is None or parsed.type == "cpu":
        return parsed
    if parsed.index is not None:
        raise ValueError(f"gpu_id={index} was given beside device={str(device)!r}, which has a number; drop one.")
    return parse_device(f"{parsed.type}:{index}")

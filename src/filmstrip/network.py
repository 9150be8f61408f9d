"""What makes a network a network: a config.json, loading, saving, a place, fewer bits.

What does that is imported where it is used, so that a network's file loads nothing but what it computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from filmstrip.configuration import Configured
from filmstrip.devices import parse_device
from filmstrip.hints import numbers_in
from filmstrip.json_files import shown

if TYPE_CHECKING:
    from filmstrip.checkpoints.loading import NameRules
    from filmstrip.memory.casting import Casting
    from filmstrip.memory.quantization import Quantization

ModelType = TypeVar("ModelType", bound="Model")


class Model(Configured, nn.Module):
    """A network with a config.json, whose parameter names are those of the published weights.

    The class attributes are regular expressions: rows (pattern, replacement) for old names in published files,
    tensors of files to ignore, parameters that stay in float32 when the rest is loaded in a half type, and layers
    that keep their type when the rest is stored in a narrower one. `computing_methods` names those that compute with
    the weights, beside `forward`. Those with an underscore say what the network's own code supports, under the names
    that Diffusers gives them.
    """

    renamed_keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    ignored_keys: ClassVar[tuple[str, ...]] = ()
    keep_in_fp32: ClassVar[tuple[str, ...]] = ()
    keep_precise: ClassVar[tuple[str, ...]] = ("norm",)
    computing_methods: ClassVar[tuple[str, ...]] = ()
    _supports_gradient_checkpointing: ClassVar[bool] = False
    _repeated_blocks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(
        cls: type[ModelType],
        name: str | Path,
        *,
        subfolder: str | None = None,
        torch_dtype: Any = None,
        dtype: Any = None,
        mindspore_dtype: Any = None,
        variant: str | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        low_cpu_mem_usage: bool = True,
    ) -> ModelType:
        """Load a network in evaluation mode from a folder, a hub repository or a built-in model.

        Every tensor of the files must have its place in the network, and the other way round.

        Args:
            name: "org/name" on the hub, the path of a folder, or the name of a built-in model.
            subfolder: the component of a pipeline's checkpoint, such as "transformer".
            torch_dtype: the type of the weights; without it they keep the type most of the file has, except that
                a CPU runs float16 files in bfloat16. `dtype` and `mindspore_dtype` are other names of it.
            variant: files with that word in their names, such as "fp16".
            device: where the weights are put; without it, on the CPU.
            use_safetensors, low_cpu_mem_usage: taken from code written for Diffusers, and without effect: safetensors
                come before `.bin` files, and no load needs more memory than the weights.

        Raises:
            CheckpointError: there is no such checkpoint, it is damaged, or it does not fit.
        """
        from filmstrip.checkpoints.dtypes import requested_dtype
        from filmstrip.checkpoints.locate import find_checkpoint

        wanted = requested_dtype(torch_dtype, dtype, mindspore_dtype)
        folder = find_checkpoint(
            name,
            subfolder=subfolder or "",
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        return cls.load(folder, dtype=wanted, device=device, variant=variant)

    @classmethod
    def load(
        cls: type[ModelType],
        folder: Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        variant: str | None = None,
        variant_required: bool = True,
    ) -> ModelType:
        """`from_pretrained` for a component's folder on this machine."""
        from filmstrip.checkpoints.dtypes import resolve_dtype
        from filmstrip.checkpoints.files import open_weights
        from filmstrip.checkpoints.loading import build_empty, fill

        place = None if device is None else parse_device(device)
        cls._check_is_component(folder)
        weights = open_weights(folder, variant, variant_required=variant_required)
        resolved = resolve_dtype(dtype, weights.sizes(), place)
        model = build_empty(lambda: cls.from_folder(folder), for_weights=weights)
        return fill(model, weights, dtype=resolved, device=place or torch.device("cpu"), rules=cls.name_rules()).eval()

    @classmethod
    def check_entry(cls, name: str, value: Any, default: Any) -> None:
        """See that an entry of a config can have this value: sizes and counts are at least 1, but where 0 is usual."""
        super().check_entry(name, value, default)
        takes_any = default is None or isinstance(default, (str, Sequence))
        for number in numbers_in(value):
            if isinstance(number, int) and number < (1 if default != 0 else 0):
                raise ValueError(f"{name} must be at least {1 if default != 0 else 0}, got {shown(value)}.")
            if isinstance(number, float) and not takes_any and not (number > 0 or default <= number == 0):
                raise ValueError(f"{name} must be more than 0, got {shown(value)}.")

    @classmethod
    def name_rules(cls) -> NameRules:
        """How the names and types of published files may differ from the network's."""
        from filmstrip.checkpoints.loading import NameRules

        return NameRules(cls.renamed_keys, cls.ignored_keys, cls.keep_in_fp32)

    @classmethod
    def _check_is_component(cls, folder: Path) -> None:
        from filmstrip.checkpoints.errors import CheckpointError
        from filmstrip.checkpoints.index import INDEX_NAME, read_model_index

        if (folder / cls.config_name).is_file() or not (folder / INDEX_NAME).is_file():
            return
        rows = read_model_index(folder).components
        names = [name for name, (_, class_name) in rows.items() if class_name == cls.__name__]
        hint = f"pass subfolder={names[0]!r}" if names else f"it has no {cls.__name__}"
        raise CheckpointError(f"{folder} is the checkpoint of a whole pipeline; {hint}.")

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        variant: str | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write config.json and the weights to `folder`, as `from_pretrained` reads them.

        Args:
            max_shard_size: above it the weights are split over several files.
            variant: a word for the file names, such as "fp16".
            safe_serialization: False is taken from old code, with a warning: the files are safetensors all the same.
        """
        from filmstrip.checkpoints.saving import no_half_folder, save_weights, warn_of_pickles
        from filmstrip.memory.quantization import check_unquantized

        warn_of_pickles(safe_serialization)
        check_unquantized(self, "it can't be saved; save it before, and quantise it after loading")
        self.config_text()  # fails before anything is written
        with no_half_folder(Path(folder)):
            save_weights(self, folder, max_shard_size=max_shard_size, variant=variant)
            self.save_config(folder)

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in: of the first floating-point parameter, or buffer if there are no parameters."""
        from filmstrip.memory.residency import compute_dtype_of

        if (cast := compute_dtype_of(self)) is not None:
            return cast
        return next((tensor.dtype for tensor in self._tensors() if tensor.is_floating_point()), torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the first parameter, or buffer, is."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    @property
    def execution_device(self) -> torch.device:
        """Where it computes: elsewhere than where its weights wait if it is offloaded."""
        from filmstrip.memory.residency import execution_device

        return execution_device(self)

    def enable_layerwise_casting(
        self,
        storage_dtype: torch.dtype = torch.float8_e4m3fn,
        compute_dtype: torch.dtype | None = None,
        skip_modules_pattern: str | Sequence[str] | None = None,
        skip_modules_classes: Sequence[type[nn.Module]] | None = None,
        non_blocking: bool = False,
    ) -> Casting:
        """Store the weights of layers in a narrow type; each layer's are widened while it computes.

        Args:
            compute_dtype: the type of the network; another one is an error.
            skip_modules_pattern: regular expressions of names of layers that keep their type, besides those that the
                class names in `keep_precise`; None and "auto" are the class's alone.
            skip_modules_classes: classes of modules that keep their type, with all that they hold.
            non_blocking: without effect; taken from code written for Diffusers.

        Returns:
            What became narrower, and how many bytes that saves.

        Raises:
            ValueError: nothing would become smaller, or the network is stored narrow or offloaded already.
        """
        from filmstrip.memory.casting import cast_layers

        if compute_dtype not in (None, self.dtype):
            raise ValueError(
                f"compute_dtype is {compute_dtype}, but {type(self).__name__} was loaded as {self.dtype}; load it with"
                f" torch_dtype={compute_dtype}, or leave compute_dtype out."
            )
        named = () if skip_modules_pattern in (None, "auto") else skip_modules_pattern or ()
        kept = (*self.keep_precise, *((named,) if isinstance(named, str) else named))
        return cast_layers(self, storage_dtype, self.dtype, kept, skip_modules_classes or ())

    def quantize(self, kind: str) -> Quantization:
        """Store the weights of linear layers in fewer bits, but for the sensitive ones that `keep_precise` names.

        It computes in the same type as before, slower on a CPU; the type can't be changed any more, nor can it be
        saved.

        Args:
            kind: "int8", "fp8" or "int4".

        Returns:
            The layers that became smaller, those that did not and why, and the bytes saved.

        Raises:
            ImportError: torchao is not installed.
            ValueError: nothing would become smaller, the device can't do it, or the network is stored narrow or
                offloaded already.
        """
        from filmstrip.memory.quantization import quantize

        return quantize(self, kind, self.keep_precise)

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
    ) -> None:
        """Keep the weights on the CPU, and have groups of them come to a device; see the pipeline's call of this name.

        Raises:
            ValueError: an argument makes no sense.
        """
        from filmstrip.checkpoints.mapping import map_to_disk
        from filmstrip.memory.offloading import check_group_arguments, group_grain, offload

        idle = {"non_blocking": non_blocking, "record_stream": record_stream, "low_cpu_mem_usage": low_cpu_mem_usage}
        device = check_group_arguments(onload_device, offload_device, use_stream, **idle)
        grain = group_grain(offload_type, num_blocks_per_group)
        if offload_to_disk_path is not None:
            map_to_disk(self, Path(offload_to_disk_path) / f"{type(self).__name__}.safetensors")
        offload({type(self).__name__: self}, device, grain, streamed=use_stream)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the parameters are, tied weights counted once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks that the network repeats, once for all of them; the arguments are torch.compile's."""
        if not self._repeated_blocks:
            raise ValueError(f"{type(self).__name__} repeats no block; compile it whole.")
        for module in self.modules():
            if type(module).__name__ in self._repeated_blocks:
                module.compile(*args, **kwargs)

    def enable_gradient_checkpointing(self) -> None:
        """Train in less memory and more time: blocks are computed again in the backward pass."""
        if not self._supports_gradient_checkpointing:
            raise ValueError(f"{type(self).__name__} has no blocks that can be computed again in the backward pass.")
        self._set_gradient_checkpointing(True)

    def disable_gradient_checkpointing(self) -> None:
        """Keep the intermediate results for the backward pass again."""
        self._set_gradient_checkpointing(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are computed again in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def _set_gradient_checkpointing(self, is_on: bool) -> None:
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = is_on  # type: ignore[assignment]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        from filmstrip.memory.quantization import check_movable, check_unquantized, quantization_of
        from filmstrip.memory.residency import release

        release(self)  # what is moved or changed is what is at home
        if quantization_of(self) is not None:
            before = torch.empty(0, dtype=self.dtype, device=self.device)
            after = fn(before)
            if after.dtype != before.dtype:
                check_unquantized(self, f"it stays in {before.dtype}; load it again in {after.dtype} and quantise that")
            check_movable(self, after.device)
        return super()._apply(fn, recurse)

    def _tensors(self) -> list[Tensor]:
        return [*self.parameters(), *self.buffers()]

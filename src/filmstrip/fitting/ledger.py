"""How much memory a computation takes, found by going through it without values, hence without memory.

Networks are copied to the meta device, where operations only work out shapes. `Ledger` sees every operation and adds
up what is alive. Weights are not counted: where they are is a matter of residency.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import gt
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from filmstrip.fitting.presence import Presence
from filmstrip.fitting.results import Results, kind, maker, tensors_in
from filmstrip.kernels import onednn
from filmstrip.kernels.valueless import is_on_cpu
from filmstrip.memory.sizes import is_quantized, parts

aten = torch.ops.aten


Peaks = tuple[int, ...]
"""The most bytes by way of keeping weights: first without any, then with those that are there in each of `GRAINS`."""


@dataclass(frozen=True)
class _Measured:
    """Bytes that a work took beside what it gave, at its most and after it."""

    most: Mapping[str, Peaks]
    """By the network whose weights were used last."""
    kept: int
    after: Any
    """Which weights were there in the end."""

    def of(self, share: float) -> _Measured:
        """The same for a share of the work, with all weights."""
        return replace(
            self, most={holder: _shared(most, share) for holder, most in self.most.items()}, kept=int(self.kept * share)
        )


def _shared(most: Peaks, share: float) -> Peaks:
    without_weights, part = most[0], int(most[0] * share)
    return tuple(part + one - without_weights for one in most)


class Ledger(TorchDispatchMode):
    """While it is active: bytes of the tensors that are alive, and the most of them so far.

    Args:
        networks: whose weights are not counted; by name.
        given: other tensors that were there before, and are not counted.
        on_cpu: whether a CPU is to do the work; else tensors with values are the host's, and not counted.
        together: names of networks that work in turns and therefore stay side by side.
        results: what operations gave before; nothing is known if None.
        presence: which weights are there to begin with; none are if None.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        given: Iterable[Tensor] = (),
        *,
        on_cpu: bool,
        together: Collection[str] = (),
        results: Results | None = None,
        presence: Presence | None = None,
    ) -> None:
        super().__init__()
        self.live = self.operations = 0
        self.stage = ""
        self.peaks: dict[tuple[str, str], Peaks] = {}
        """The most bytes by stage and by the network whose weights were used last ("" before the first)."""
        self.beside: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        """The networks that had stayed on the device then, too."""
        self.at_work: defaultdict[str, list[str]] = defaultdict(list)
        """The networks whose weights were used in each stage."""
        self.calls: Counter[str] = Counter()
        """How often each network was called."""
        self.presence = Presence(networks, together) if presence is None else presence
        self._on_cpu = on_cpu
        self._results = Results() if results is None else results
        self._alive: dict[int, Any] = {}
        self._given = {one.untyped_storage()._cdata: one for one in given}
        self._weights = {
            part.untyped_storage()._cdata: (name, part.untyped_storage())
            for name, network in networks.items()
            for tensor in (*network.parameters(), *network.buffers())
            for part in parts(tensor)
        }

    @property
    def peak(self) -> int:
        """The most bytes beside weights."""
        return max((most[0] for most in self.peaks.values()), default=0)

    def enter(self, stage: str) -> None:
        """Begin a stage of the work; what the one before used last is still there."""
        self.stage = stage
        self.grow_to(self.live)

    def grow_to(self, live: int) -> None:
        """Note that so many bytes were alive at a time."""
        self._note(self.presence.holder, (live, *(live + weights for weights in self.presence.now)))

    def _note(self, holder: str, reached: Peaks) -> None:
        key = self.stage, holder
        before = self.peaks.get(key)
        if before is None:
            self.peaks[key] = reached
            self.beside[key] |= self.presence.beside
        elif any(map(gt, reached, before)):
            self.peaks[key] = _larger(before, reached)

    def measured(self, work: Callable[[], Any]) -> tuple[Any, _Measured]:
        """What a work gives, and what it took."""
        outer, before, at_first = self.peaks, self.live, self.presence.holder
        self.peaks = {}
        result = work()
        storages = {one.untyped_storage()._cdata: one for one in tree_leaves(result) if isinstance(one, Tensor)}
        given = sum(one.untyped_storage().nbytes() for one in storages.values())
        inner, self.peaks = self.peaks, outer
        most = {}
        for (_, holder), reached in inner.items():
            self._note(holder, reached)
            if holder != at_first or self.presence.holder == at_first:  # others were only there still when it began
                most[holder] = tuple(one - before - given for one in reached)
        return result, _Measured(most, self.live - before - given, self.presence.state())

    def take(self, took: _Measured) -> None:
        """Note a work that was measured before, once there is room for what it gives."""
        self.presence.go_on_from(took.after)
        self._works()
        for holder, most in took.most.items():
            self._note(holder, tuple(self.live + one for one in most))
        self.live += took.kept

    def repeat(self, work: Callable[[Tensor], Tensor], tensor: Tensor, known: dict[Any, Any]) -> Tensor:
        """What `work` makes of a tile; the first is worked on, and none is larger."""
        if not known:
            result, took = self.measured(lambda: work(tensor))
            known["first"] = tensor.shape, result.shape, took
            return cast("Tensor", result)
        whole, given, took = known["first"]
        sides = (
            out * here // there for out, here, there in zip(given[-2:], tensor.shape[-2:], whole[-2:], strict=True)
        )
        made = tensor.new_empty(*given[:-2], *sides)
        self.take(took.of(tensor.numel() / whole.numel()))
        return made

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations += 1
        for one in tensors_in((*args, *kwargs.values())):
            if (
                one.is_meta
                and (storage := one.untyped_storage()._cdata) in self._weights
                and self.presence.use(storage)
            ):
                self._works()
                self.grow_to(self.live)
        rule = _rules().get(func)
        work = partial(func, *args, **kwargs) if rule is None else partial(rule, self, func, *args, **kwargs)
        result = self._results.of(func, work, args, kwargs)
        for one in tensors_in((result,)):
            if one.is_meta or self._on_cpu:
                self._count(one)
        if self._on_cpu and (scratch := _cpu_scratch().get(func)) is not None:
            self.grow_to(self.live + scratch(*args))
        return result

    def _works(self) -> None:
        name = self.presence.holder
        if name not in self.at_work[self.stage]:
            self.at_work[self.stage].append(name)
        self.beside[self.stage, name] |= self.presence.beside

    def _count(self, tensor: Tensor, size: int | None = None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._weights or key in self._given:
            return
        size = storage.nbytes() if size is None else size
        self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        self.grow_to(self.live)

    def _forget(self, key: int, size: int) -> None:
        if self._alive.pop(key, None) is not None:
            self.live -= size

    # ---- operations that need values, or that the meta device lacks ----------------------------------------------

    def _number(self, func: Any, tensor: Tensor) -> Any:
        if not tensor.is_meta:
            return func(tensor)
        return True if tensor.dtype == torch.bool else 1.0 if tensor.is_floating_point() else 1

    def _onednn_convolution(
        self, _: Any, hidden_states: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any
    ) -> Tensor:
        padding, stride, dilation, groups = settings
        usual = aten.convolution.default
        unused = False, [0] * len(padding)  # what only transposed convolutions take
        return self._convolution(usual, hidden_states, weight, bias, stride, padding, dilation, *unused, groups)

    def _convolution(self, func: Any, hidden_states: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        result: Tensor = func(hidden_states.to("meta"), weight, *settings)
        layout = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d
        if self._on_cpu and any(one.is_contiguous(memory_format=layout) for one in (hidden_states, weight)):
            return torch.empty(result.shape, dtype=result.dtype, device="meta", memory_format=layout)
        return result

    def _copy(self, func: Any, tensor: Tensor, **kwargs: Any) -> Tensor:
        device = torch.device(kwargs.get("device") or tensor.device)
        if tensor.is_meta and device.type == "cpu":  # from the accelerator to the host, or from the CPU to itself
            return cast("Tensor", func(tensor, **{**kwargs, "device": torch.device("meta")}))
        copied: Tensor = func(tensor, **kwargs)
        if self._on_cpu and not tensor.is_meta and kwargs.get("dtype") in (None, tensor.dtype):
            # A CPU would not copy: what was counted stays so, and what was there before the ledger is the caller's.
            storage = tensor.untyped_storage()
            size = storage.nbytes() if storage._cdata in self._alive else 0
            self._forget(storage._cdata, size)
            self._count(copied, size)
        return copied


def _convolution_scratch(hidden_states: Tensor, weight: Tensor, *_: Any) -> int:
    """What oneDNN reorders for itself: the weights, and a video or the weights again where one is not channels-last."""
    layout = torch.channels_last if weight.dim() == 4 else torch.channels_last_3d
    if not hidden_states.is_contiguous(memory_format=layout):
        return weight.nbytes + hidden_states.nbytes
    return weight.nbytes if weight.is_contiguous(memory_format=layout) else 2 * weight.nbytes


def _product_scratch(hidden_states: Tensor, weight: Tensor, *_: Any) -> int:
    """The panel of the weights that each of oneDNN's threads packs."""
    return torch.get_num_threads() * (1024 + 256 * min(weight.shape[-1], 1024))


@cache
def _cpu_scratch() -> dict[Any, Callable[..., int]]:
    return {
        aten.convolution.default: _convolution_scratch,
        onednn.convolution_operator(): _convolution_scratch,
        onednn.linear_operator(): _product_scratch,
    }


@cache
def _rules() -> dict[Any, Callable[..., Any]]:
    return {
        aten._local_scalar_dense.default: Ledger._number,
        aten.convolution.default: Ledger._convolution,
        aten._to_copy.default: Ledger._copy,
        onednn.convolution_operator(): Ledger._onednn_convolution,
    }


def _larger(some: Peaks, others: Peaks) -> Peaks:
    return tuple(map(max, some, others))


class AsWithValues(TorchFunctionMode):
    """While it is active: what the meta device alone does otherwise is done as on real devices."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is F.group_norm and args[0].is_meta and is_on_cpu(args[0]):
            return torch.empty_like(args[0])  # in the same order in memory
        if func is F.scaled_dot_product_attention and args[0].is_meta:  # without a table of scores
            query, _, value = args[:3]
            batch, heads, tokens, _ = query.shape
            sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)  # their logarithms, of every kernel
            attended = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
            del sums
            return attended
        return func(*args, **(kwargs or {}))


def without_values(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of a network on the meta device, in a type or its own, without what others have hooked to it.

    Quantised weights are as they are in any type.
    """
    network = getattr(network, "_orig_mod", network)  # a compiled network is one that wraps it
    table: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        if is_quantized(tensor):
            made = tensor.detach().to("meta")
        else:
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=wanted, device="meta")
        table[id(tensor)] = nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made
    for module in network.modules():  # hooks may hold more than can be copied
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            table[id(hooks)] = OrderedDict()
    copied = copy.deepcopy(network, table)
    for module in copied.modules():  # or transformers takes its own hooks, by which it keeps layers' outputs, for there
        module.__dict__.pop("_output_capturing_hooks_installed", None)
    return copied


def replay(network: nn.Module, name: str, ledger: Ledger) -> None:
    """Go through a network until it keeps nothing of a kind of input, and from then on only note what that took.

    The first calls may keep something for those after them, such as the keys and values of a prompt.
    """
    forward, known = network.forward, dict[Any, Any]()

    def forward_or_replay(*args: Any, **kwargs: Any) -> Any:
        leaves, form = tree_flatten((args, kwargs))
        key = (str(form), *map(_kind, leaves))
        ledger.calls[name] += 1
        if key in known:
            made, made_form, took = known[key]
            result = tree_unflatten([one() if callable(one) else one for one in made], made_form)
            ledger.take(took)
            return result
        result, took = ledger.measured(lambda: forward(*args, **kwargs))
        if took.kept <= 0:
            made, made_form = tree_flatten(result)
            remade = [maker(one) if isinstance(one, Tensor) else one for one in made]
            known[key] = remade, made_form, replace(took, kept=0)
        return result

    network.forward = forward_or_replay


def _kind(leaf: Any) -> Any:
    """What of an argument decides how much memory it leads to."""
    if isinstance(leaf, Tensor):
        return kind(leaf)
    if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
        return type(leaf)
    return leaf if isinstance(leaf, (bool, str)) else id(leaf)

"""Copying weights to the device that computes: at once, or ahead of time on a stream of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from filmstrip.devices import SideStream, pinned_buffer

_ALIGNMENT = 256  # bytes; what the allocators of accelerators give too


class Load(Protocol):
    """Tensors that come together."""

    company: str
    stays: bool

    @property
    def homes(self) -> list[Tensor]:
        """The tensors to copy, each once."""


class Courier(Protocol):
    """Who brings the tensors of a unit."""

    device: torch.device

    def fetch(self, load: Any) -> Mapping[int, Tensor]:
        """Copies of a unit's tensors, by the `id` of each."""

    def look_ahead(self, load: Any) -> None:
        """Told that a unit has come."""

    def retire(self, copies: Sequence[Tensor]) -> None:
        """Take over copies that nobody will start to use any more."""

    def rest(self) -> None:
        """Let go of all that was kept for the next unit."""


def like(home: Tensor, copy: Tensor) -> Tensor:
    """A copy as the module held the original: a parameter if that was one."""
    return nn.Parameter(copy, home.requires_grad) if isinstance(home, nn.Parameter) else copy


class DirectCourier:
    """Copies when a unit is wanted."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def fetch(self, load: Load) -> Mapping[int, Tensor]:
        return {id(home): self._copied(home) for home in load.homes}

    def _copied(self, home: Tensor) -> Tensor:
        copy = home.detach().to(self.device) if home.device != self.device else home.detach().clone()
        return like(home, copy)

    def look_ahead(self, load: Load) -> None:
        """Nothing."""

    def retire(self, copies: Sequence[Tensor]) -> None:
        """Nothing: the device's memory is given out anew in the order of its work."""

    def rest(self) -> None:
        """Nothing."""


class CastingCourier(DirectCourier):
    """Copies where the weights are, in the type that computes."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(device)
        self.dtype = dtype

    def fetch(self, load: Load) -> Mapping[int, Tensor]:
        widened = {home: self.dtype if home.is_floating_point() else home.dtype for home in load.homes}
        return {id(home): like(home, home.detach().to(dtype, copy=True)) for home, dtype in widened.items()}


class StreamCourier(DirectCourier):
    """Copies what came next last time, while the present unit computes.

    A thread writes a unit's tensors into one of two pinned buffers, each as large as the largest unit so far, and a
    side stream copies that to the device in one piece. What has left is kept until the device is done with it, and
    only then is there room for the next: two units at a time are on the device, besides those that stay.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream = SideStream(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._followers: dict[Any, Any] = {}
        self._last: Any = None
        self._coming: tuple[Any, Future[tuple[dict[int, Tensor], Any]]] | None = None
        self._retired: list[Tensor] = []
        self._buffers: list[Tensor | None] = [None, None]
        self._sent: list[Any] = [None, None]
        self.bytes_pinned = 0

    def fetch(self, load: Load) -> Mapping[int, Tensor]:
        if self._coming is None or self._coming[0] is not load:
            self._drain()
            if load.stays:
                return super().fetch(load)
            self._coming = load, self._start(load)
        (_, future), self._coming = self._coming, None
        copies, arrived = future.result()
        self._stream.wait_for(arrived)
        return copies

    def look_ahead(self, load: Load) -> None:
        if load.stays:
            return
        if self._last is not None:
            self._followers[self._last] = load
        self._last = load
        follower = self._followers.get(load)
        if follower is not None and follower is not load and follower.company == load.company:
            self._coming = follower, self._start(follower)

    def retire(self, copies: Sequence[Tensor]) -> None:
        self._retired.extend(copies)

    def rest(self) -> None:
        self._drain()
        self._last = None
        self._buffers, self._sent, self.bytes_pinned = [None, None], [None, None], 0

    def _drain(self) -> None:
        """Let go of what left, and of what comes though it is not wanted."""
        if self._coming is not None:
            self._coming[1].exception()  # waits; if it failed, whoever wants that unit will see it
            self._coming = None
        self._stream.mark().synchronize()
        self._retired.clear()

    def _start(self, load: Load) -> Future[tuple[dict[int, Tensor], Any]]:
        retired, self._retired = self._retired, []
        return self._thread.submit(self._send, load, self._stream.mark(), retired)

    @torch.no_grad()
    def _send(self, load: Load, done: Any, retired: list[Tensor]) -> tuple[dict[int, Tensor], Any]:
        """Copies of a unit's tensors and the event of their arrival, once all that was asked for before is `done`."""
        done.synchronize()
        retired.clear()
        plain = [home for home in load.homes if type(home) in (Tensor, nn.Parameter)]
        starts, total = [], 0
        for home in plain:
            starts.append(total)
            total += -(-home.nbytes // _ALIGNMENT) * _ALIGNMENT
        buffer = self._buffer(total)
        for home, start in zip(plain, starts, strict=True):
            _part(buffer, start, home).copy_(home)
        with self._stream.used():
            whole = torch.empty(total, dtype=torch.uint8, device=self.device).copy_(buffer[:total], non_blocking=True)
            copies = {id(home): like(home, _part(whole, at, home)) for home, at in zip(plain, starts, strict=True)}
            others = [home for home in load.homes if id(home) not in copies]  # quantised, or the like
            copies |= {id(home): self._copied(home) for home in others}
            arrived = self._stream.mark_side()
        self._sent[0] = arrived
        return copies, arrived

    def _buffer(self, size: int) -> Tensor:
        """The pinned buffer whose turn it is."""
        self._buffers.reverse()
        self._sent.reverse()
        if self._sent[0] is not None:
            self._sent[0].synchronize()
        buffer = self._buffers[0]
        if buffer is None or len(buffer) < size:
            self._buffers[0] = buffer = pinned_buffer(size)
            self.bytes_pinned = sum(len(one) for one in self._buffers if one is not None)
        return buffer


def _part(buffer: Tensor, start: int, home: Tensor) -> Tensor:
    """The place of a tensor in a buffer of bytes, laid out as it is."""
    strides = torch.empty_like(home, device="meta").stride()
    return buffer[start : start + home.nbytes].view(home.dtype).as_strided(home.shape, strides)

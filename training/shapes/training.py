"""What both trainings share: the learning rate's course, averaged weights, and checkpoints to resume from."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from training.shapes.muon import Muon


def learning_rate_factor(step: int, num_steps: int, warmup: int = 30, decay: float = 0.6) -> float:
    """Rises over `warmup` steps, stays at 1, and falls linearly to nought over the last `decay` of all steps."""
    rising = (step + 1) / warmup
    falling = (num_steps - step) / max(1.0, decay * num_steps)
    return max(0.0, min(1.0, rising, falling))


def is_for_muon(name: str, parameter: nn.Parameter) -> bool:
    """True for the weights of convolutions and linear layers, but not for tables that are looked up."""
    is_table = name.startswith("shared.") or name.endswith("scale_shift_table") or "relative_attention_bias" in name
    return parameter.ndim >= 2 and not is_table


@dataclass
class Trainee:
    """The networks in training, with everything that decides how the training goes on."""

    networks: dict[str, nn.Module]
    rng: random.Random
    generator: torch.Generator
    num_steps: int
    ema_decay: float
    muon_rate: float
    adam_rate: float
    step: int = 0
    optimizers: list[torch.optim.Optimizer] = field(init=False)
    averages: dict[str, dict[str, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        named = [pair for network in self.networks.values() for pair in network.named_parameters()]
        matrices = [parameter for name, parameter in named if is_for_muon(name, parameter)]
        others = [parameter for name, parameter in named if not is_for_muon(name, parameter)]
        self.optimizers = [
            Muon(matrices, self.muon_rate),
            torch.optim.AdamW(others, self.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.averages = {
            name: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for name, network in self.networks.items()
        }

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for network in self.networks.values() for parameter in network.parameters()]

    def update(self, loss: Tensor) -> float:
        """One step of the optimiser down the gradient of `loss`; the gradient's norm before clipping it to 1."""
        factor = learning_rate_factor(self.step, self.num_steps)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        for optimizer, rate in zip(self.optimizers, (self.muon_rate, self.adam_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        return float(norm)

    @torch.no_grad()
    def _average(self) -> None:
        weight = 1 - min(self.ema_decay, self.step / (self.step + 10))
        for name, network in self.networks.items():
            averages = self.averages[name]
            for key, value in network.state_dict().items():
                averages[key].lerp_(value, weight)

    def save(self, path: Path) -> None:
        """Write all of it to `path`, whole or not at all."""
        state = {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "averages": self.averages,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": list(self.rng.getstate()),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote; nothing happens if there is no such file yet."""
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.averages = state["averages"]
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self.generator.set_state(state["generator"])
        self.step = state["step"]


def averaged(network: nn.Module, average: dict[str, Tensor]) -> nn.Module:
    """Put the averaged weights into `network`, and have it ready for use."""
    network.load_state_dict(average)
    return network.eval().requires_grad_(False)


def save_strips(path: Path, videos: Iterable[Tensor], every: int = 2) -> None:
    """A picture with one row per video, (3, frames, height, width) in [-1, 1], of every second frame or so."""
    rows = [video[:, ::every].permute(2, 1, 3, 0).flatten(1, 2) for video in videos]
    pixels = ((torch.cat(rows).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)

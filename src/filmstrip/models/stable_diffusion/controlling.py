"""Running ControlNets beside a U-Net: several at once, for a part of the steps, on a part of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.generation.finite import check_finite
from filmstrip.generation.request import Request
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.network import Model


class MultiControlNetModel(Model):
    """Several ControlNets whose residuals are added up.

    Its checkpoint is a folder for the first, and beside it others with _1, _2 ... behind its name.
    """

    def __init__(self, controlnets: Iterable[ControlNetModel]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(controlnets)
        self.__dict__["config"] = Config({"controlnets": [net.config for net in self.nets]})

    def save_pretrained(self, folder: str | Path, **settings: Any) -> None:
        """Write each ControlNet."""
        for index, net in enumerate(self.nets):
            net.save_pretrained(f"{folder}_{index}" if index else folder, **settings)  # type: ignore[operator]

    @classmethod
    def load(cls, folder: Path, **settings: Any) -> MultiControlNetModel:
        """Read the ControlNets that `save_pretrained` wrote."""
        return cls([ControlNetModel.load(one, **settings) for one in _folders(folder)])

    @classmethod
    def load_config(cls, folder: str | Path) -> dict[str, Any]:
        """The configurations of all ControlNets."""
        return {"controlnets": [ControlNetModel.load_config(one) for one in _folders(Path(folder))]}

    @classmethod
    def from_config(cls, config: Any, **overrides: Any) -> MultiControlNetModel:
        """ControlNets without weights of their own, from such configurations."""
        return cls([ControlNetModel.from_config(one) for one in config["controlnets"]])


def _folders(first: Path) -> list[Path]:
    folders = [first]
    while (following := first.with_name(f"{first.name}_{len(folders)}")).is_dir():
        folders.append(following)
    return folders


def per_net(name: str, value: float | Sequence[float], num_nets: int) -> list[float]:
    """An argument that has one value, or one for each ControlNet, as one for each."""
    if not isinstance(value, (list, tuple)):
        return [float(value)] * num_nets  # type: ignore[arg-type]
    if len(value) != num_nets:
        raise ValueError(f"{name} has {len(value)} values for {num_nets} ControlNets; give one, or one for each.")
    return [float(one) for one in value]


class Controlling:
    """What a U-Net's call is given of its ControlNets: the residuals at each step.

    Args:
        pictures: for each net, (batch, channels, height, width) in [0, 1]; the batch counts no negative prompts.
        timesteps: those of the run.
    """

    def __init__(
        self, nets: Sequence[Any], pictures: Sequence[Tensor], request: Request, timesteps: Sequence[float]
    ) -> None:
        self._nets, self._pictures, self._request = nets, pictures, request
        self._timesteps = timesteps
        # A network that gives one number for each channel is always used in this way.
        self._guesses = request["guess_mode"] or nets[0].config.global_pool_conditions

    def __call__(self, latents: Tensor, step: int, prompt_embeds: Tensor) -> dict[str, Any]:
        """Residuals for latents that may hold the negative prompts' half before the prompts' own."""
        scales, timestep = self._scales(step), self._timesteps[step]
        copies = len(latents) // len(self._pictures[0])
        controls_half = self._guesses and copies > 1
        if controls_half:
            latents, prompt_embeds, copies = latents.chunk(2)[1], prompt_embeds.chunk(2)[1], 1
        down: list[Tensor] = []
        mid: Tensor | None = None
        for net, picture, scale in zip(self._nets, self._pictures, scales, strict=True):
            arguments = (latents.to(net.dtype), timestep, prompt_embeds.to(net.dtype), picture.repeat(copies, 1, 1, 1))
            more, last = net(*arguments, conditioning_scale=scale, guess_mode=self._guesses, return_dict=False)
            down = [one + other for one, other in zip(down, more, strict=True)] if down else list(more)
            mid = last if mid is None else mid + last
        assert mid is not None
        for residual in (*down, mid):
            check_finite(residual, "controlnet", f"step {step + 1} of {len(self._timesteps)}")
        if controls_half:
            down, mid = (
                [torch.cat([torch.zeros_like(one), one]) for one in down],
                torch.cat([torch.zeros_like(mid), mid]),
            )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    def _scales(self, step: int) -> list[float]:
        request = self._request
        begin, end = step / len(self._timesteps), (step + 1) / len(self._timesteps)
        bounds = zip(request["control_guidance_start"], request["control_guidance_end"], strict=True)
        counts = [start <= begin and end <= stop for start, stop in bounds]
        scales = zip(request["controlnet_conditioning_scale"], counts, strict=True)
        return [scale if is_on else 0.0 for scale, is_on in scales]

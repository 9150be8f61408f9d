"""Running ControlNets beside a U-Net: several at once, for a part of the steps, on a part of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.checks import check_share, known, one_each
from filmstrip.configuration import Config
from filmstrip.generation.arguments import argument
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Rule, Split, away_from_negatives
from filmstrip.models.stable_diffusion.arguments import PictureArguments, PictureConditions
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.network import Model
from filmstrip.records import record


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Controlled(PictureArguments):
    """How strongly ControlNets count, and when."""

    controlnet_conditioning_scale: float | Sequence[float] = argument(
        "how strongly the control counts; a list has one for each ControlNet.", 1.0
    )
    guess_mode: bool = argument(
        "control the prediction for the prompt only, and less where the resolution is high.", False
    )
    control_guidance_start: float | Sequence[float] = argument(
        "the share of the steps from which the control counts; a list as above.", 0.0
    )
    control_guidance_end: float | Sequence[float] = argument("the share up to which it counts.", 1.0)

    def strengths(self, num_nets: int) -> Strengths:
        """The same as one value for each ControlNet."""
        names = ("control_guidance_start", "control_guidance_end", "controlnet_conditioning_scale")
        starts, ends, scales = (
            [float(one) for one in one_each(name, getattr(self, name), num_nets, "ControlNets")] for name in names
        )
        for start, end in zip(starts, ends, strict=True):
            if check_share(names[0], start) >= check_share(names[1], end):
                raise ValueError(f"control_guidance_start must be below control_guidance_end, got {start} and {end}.")
        return Strengths(scales, starts, ends)


@record("stable diffusion control strengths")
@dataclass(frozen=True)
class Strengths:
    """How strongly each ControlNet counts, and from and up to which share of the steps."""

    scales: list[float]
    starts: list[float]
    ends: list[float]

    def at(self, step: int, num_steps: int) -> list[float]:
        """The strength of each at a step."""
        begin, end = step / num_steps, (step + 1) / num_steps
        bounds = zip(self.scales, self.starts, self.ends, strict=True)
        return [scale if start <= begin and end <= stop else 0.0 for scale, start, stop in bounds]


class Controlling:
    """What a U-Net's call is given of its ControlNets: the residuals at each step.

    Args:
        timesteps: those of the run.
        guess_mode: whether the predictions for the prompts alone follow the pictures.
    """

    def __init__(
        self, nets: Sequence[Any], strengths: Strengths, timesteps: Sequence[float], *, guess_mode: bool
    ) -> None:
        self._nets, self._strengths, self._timesteps = nets, strengths, timesteps
        # A network that gives one number for each channel is always used in this way.
        self.guesses = bool(guess_mode or nets[0].config.global_pool_conditions)

    def __call__(self, latents: Tensor, step: int, given: PictureConditions) -> dict[str, Any]:
        """Residuals for the rows that follow the pictures, which are the last ones; zeros for the others."""
        spared = given.follows.index(True) if any(given.follows) else len(latents)
        if spared == len(latents):
            return {}
        pictures, prompt_embeds = known(given.pictures), given.prompt_embeds
        if spared:  # else they stay the tensors that they are, by which prompts are remembered
            latents, prompt_embeds, pictures = (
                latents[spared:],
                prompt_embeds[spared:],
                [one[spared:] for one in pictures],
            )
        timestep, num_steps = self._timesteps[step], len(self._timesteps)
        down: list[Tensor] = []
        mid: Tensor | None = None
        scales = self._strengths.at(step, num_steps)
        for net, picture, scale in zip(self._nets, pictures, scales, strict=True):
            arguments = (latents.to(net.dtype), timestep, prompt_embeds.to(net.dtype), picture.to(net.dtype))
            more, last = net(*arguments, conditioning_scale=scale, guess_mode=self.guesses, return_dict=False)
            down = [one + other for one, other in zip(down, more, strict=True)] if down else list(more)
            mid = last if mid is None else mid + last
        residuals = [*down, known(mid)]
        for residual in residuals:
            check_finite(residual, "controlnet", f"step {step + 1} of {num_steps}")
        if spared:
            residuals = [torch.cat([one.new_zeros(spared, *one.shape[1:]), one]) for one in residuals]
        return {"down_block_additional_residuals": residuals[:-1], "mid_block_additional_residual": residuals[-1]}

    def split(self, arguments: Controlled) -> Split[PictureConditions]:
        """Guidance away from the negative prompts, whose predictions do not follow the pictures when it guesses."""
        plain: Split[PictureConditions] = away_from_negatives(arguments)

        def split(conditions: PictureConditions, scale: float) -> tuple[Rule | None, list[PictureConditions]]:
            rule, [*negative, positive] = plain(conditions, scale)
            if self.guesses:
                negative = [replace(one, follows=(False,) * len(one.follows)) for one in negative]
            return rule, [*negative, positive]

        return split

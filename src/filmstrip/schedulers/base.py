"""What all schedulers have in common: settings, runs, and the calls that users of Diffusers know."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.checkpoints import find_checkpoint
from filmstrip.configuration import Configured
from filmstrip.json_files import shown
from filmstrip.outputs import Output
from filmstrip.schedulers.diffusion import SigmaTable, trained_tables
from filmstrip.schedulers.flows import between_flows
from filmstrip.schedulers.prediction import Estimator
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.schedule import Levels, respacing_of

SchedulerType = TypeVar("SchedulerType", bound="Scheduler")
RunType = TypeVar("RunType", bound=Run)


@dataclass
class SchedulerOutput(Output):
    """The latents after one step."""

    prev_sample: Tensor


class Scheduler(Configured):
    """Settings of a noise schedule and its solver.

    `start` gives a run its own object and changes nothing here. The rest is the interface of Diffusers: a thin
    layer that keeps one such run on the scheduler, for loops written against it.
    """

    config_name = "scheduler_config.json"
    order: ClassVar[int] = 1
    num_inference_steps: int | None = None

    takes_whole_numbers: ClassVar[bool] = True  # in `step`, or they are taken for indices and refused
    begins_anywhere: ClassVar[bool] = False
    """Whether a timestep of another schedule stands for the last one, as some loops of the reference have it."""
    knows_flows: ClassVar[bool] = False  # whether networks of flow matching can be followed, as settings say
    makes_noise: ClassVar[bool] = False  # of videos, and not the other way round
    is_preconditioned: ClassVar[bool] = False
    """Whether runs are for networks that were trained with the preconditioning of EDM (arXiv:2206.00364)."""
    is_flow: bool = False
    """Whether these settings are of flow matching, with levels `(1 - sigma) * clean + sigma * noise`."""
    _held: Run
    _timesteps: Tensor
    _sigmas: Tensor
    _step_index: int | None = None
    _begin_index: int | None = None
    _deprecated_kwargs: ClassVar[tuple[str, ...]] = ()  # Diffusers' loaders and tests ask for them

    def __getattr__(self, name: str) -> Any:
        """Settings, as older code for Diffusers reads them: `scheduler.beta_start`."""
        config = self.__dict__.get("config", {})
        if name not in config:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(f"scheduler.{name} is now scheduler.config.{name}; write that.", FutureWarning, stacklevel=2)
        return config[name]

    @classmethod
    def from_pretrained(
        cls: type[SchedulerType],
        name: str | Path,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> SchedulerType:
        """Build a scheduler from the settings in a checkpoint.

        Args:
            name: a folder, a hub name or a built-in model.
            subfolder: where the settings lie in it; usually "scheduler".
            overrides: constructor arguments that replace the checkpoint's.
        """
        folder = find_checkpoint(
            name,
            subfolder=subfolder,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            patterns=[f"{subfolder}/{cls.config_name}" if subfolder else cls.config_name],
        )
        return cls.from_folder(folder, **overrides)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings to `folder`, from where `from_pretrained` reads them."""
        self.save_config(folder)

    def start(self, num_inference_steps: int | None = None) -> Run:
        """The schedule and solver of one generation.

        Some schedulers take more than a number of steps, and mean by it:

        Args:
            timesteps: from noise to clean, instead of evenly spaced ones; whole numbers where those of the run are.
            sigmas: noise levels instead; of a flow from 1 down and still to be shifted, else the last one included.
            mu: the shift of a flow's levels or its logarithm, with use_dynamic_shifting.
            generator: of fresh noise; without effect where the solver draws none.
        """
        raise NotImplementedError

    @property
    def predicts(self) -> str:
        """What the network predicts."""
        return str(self.config.prediction_type)

    @classmethod
    def _understood(cls, config: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
        return between_flows(super()._understood(config, accepted), config, accepted, cls.__name__)

    @property
    def timesteps(self) -> Tensor:
        """What the network is fed at each step of the held run, on the device given to `set_timesteps`."""
        return self._timesteps

    @property
    def sigmas(self) -> Tensor:
        """Noise levels of the held run, the final one included."""
        return self._sigmas

    @property
    def init_noise_sigma(self) -> float | Tensor:
        """Standard deviation of the noise that the held run starts from."""
        return self._held.init_noise_sigma

    @property
    def step_index(self) -> int | None:
        """Index of the next step of the held run; None before the first one."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Index of the first step, if it was set."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start the held run at this step instead of looking up the first timestep."""
        self._begin_index = begin_index

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The latents as the network wants to see them."""
        return sample

    def index_for_timestep(self, timestep: float | Tensor, schedule_timesteps: Tensor | None = None) -> int | Tensor:
        """Index of the step with this timestep, or a tensor of indices for a batch of timesteps.

        Of equal timesteps it is the second, as in Diffusers; `step` itself skips none of them. A timestep may be off
        by rounding.

        Args:
            schedule_timesteps: where to look; the held run's timesteps if None.
        """
        schedule = self._held.timesteps if schedule_timesteps is None else schedule_timesteps
        table = schedule.double().cpu().numpy()

        def index_of(value: float) -> int:
            equal = np.flatnonzero(table == value)
            return int(equal[1]) if len(equal) > 1 else self._index_in(table, value)

        if isinstance(timestep, Tensor) and timestep.ndim:
            return torch.tensor([index_of(value) for value in timestep.tolist()], device=schedule.device)
        return index_of(float(timestep))

    @property
    def compatibles(self) -> list[type[Scheduler]]:
        """The classes whose `from_config` takes this scheduler's config: its own and all that know its training."""
        if not isinstance(self, TrainedScheduler):
            return [type(self)]
        from filmstrip import schedulers  # which imports this module

        kinds = [kind for kind in vars(schedulers).values() if isinstance(kind, type)]
        return [kind for kind in kinds if issubclass(kind, TrainedScheduler)]

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _num_steps(self) -> int:
        """The number of inference steps that was set."""
        if self.num_inference_steps is None:
            raise ValueError("the scheduler has no timesteps to step between yet; call set_timesteps first.")
        return self.num_inference_steps

    def _hold(self, run: Run, device: torch.device | str | None = None) -> None:
        self._held = run
        self._timesteps, self._sigmas = run.timesteps.to(device), run.sigmas.to(device)
        self._step_index = self._begin_index = None

    def _next_index(self, timestep: float | Tensor) -> int:
        """Index of the step that is due, which is then done."""
        is_whole = isinstance(timestep, int) or (isinstance(timestep, Tensor) and not timestep.is_floating_point())
        if is_whole and not self.takes_whole_numbers:
            raise ValueError(
                f"step takes one of scheduler.timesteps, which are not whole numbers, got {shown(timestep)};"
                " if it is the index of a step, pass scheduler.timesteps[index]."
            )
        index = self._due_index(timestep)
        self._step_index = index + 1
        return index

    def _due_index(self, timestep: float | Tensor) -> int:
        """Index of the step that is due; the first one is found by its place in `timesteps`, or else by its value."""
        if self._step_index is None:
            self._step_index = self._begin_index
        if self._step_index is None:
            self._step_index = self._place_of(timestep)
        if self._step_index is None:
            self._step_index = self._index_in(self._held.timesteps.double().numpy(), float(timestep))
        if self._step_index >= len(self._timesteps):
            raise ValueError(
                f"all {len(self._timesteps)} steps of this schedule are done; call set_timesteps to start another run."
            )
        return self._step_index

    def _indices(self, timesteps: Tensor) -> Tensor:
        """Indices of timesteps, (batch,); once a first step was set or made, that step's for all of them."""
        if self._begin_index is None:
            table = self._held.timesteps.double().numpy()
            return torch.tensor([self._index_in(table, value) for value in timesteps.flatten().tolist()])
        return torch.full((len(timesteps),), self._begin_index if self._step_index is None else self._step_index)

    def _value(self, timestep: float | Tensor) -> float:
        """A timestep as a number; one that was taken from `timesteps` is read without waiting for the device."""
        place = None if isinstance(timestep, Tensor) and timestep.device.type == "cpu" else self._place_of(timestep)
        return float(timestep if place is None else self._held.timesteps[place])

    def _place_of(self, timestep: float | Tensor) -> int | None:
        """Index of a timestep that was taken from `timesteps`, which tells equal ones apart; None for others."""
        if not isinstance(timestep, Tensor) or timestep.numel() != 1 or timestep.device != self._timesteps.device:
            return None
        shown = self._timesteps.untyped_storage()
        is_of_it = timestep.dtype == self._timesteps.dtype and timestep.untyped_storage()._cdata == shown._cdata
        return int(timestep.storage_offset() - self._timesteps.storage_offset()) if is_of_it else None

    def _index_in(self, table: np.ndarray[Any, Any], timestep: float) -> int:
        """Index of the step that begins at a timestep; the first one if there are several."""
        matches = np.flatnonzero(table == timestep)
        if len(matches):
            begins = matches[matches % self.order == 0]  # the other calls of a step are in its middle
            return int(begins[0] if len(begins) else matches[0])
        nearest = int(np.abs(table - timestep).argmin())
        # float32 rounds a timestep of 1000 by 3e-5; schedules are not finer than this tolerance.
        if abs(table[nearest] - timestep) > 1e-6 * len(self):
            if self.begins_anywhere:
                return len(table) - 1
            raise IndexError(
                f"timestep {timestep:g} is not in the schedule (the nearest is {table[nearest]:g});"
                " take one of scheduler.timesteps."
            )
        return nearest


class TrainedScheduler(Scheduler):
    """Settings whose networks were trained at whole-number timesteps that add noise."""

    betas: Tensor
    alphas_cumprod: Tensor
    _estimator: Estimator
    _least_signal: ClassVar[float | None] = None  # what stands in for none at all

    def _train(self) -> None:
        """Build the tables that the settings describe."""
        self.betas, self.alphas_cumprod = trained_tables(self.config, self._least_signal)
        self._estimator = Estimator.of(self.config)

    @property
    def alphas(self) -> Tensor:
        """Share of the signal that each timestep of the training keeps."""
        return 1 - self.betas

    def _noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents as noisy as the training's are at each of the timesteps, (batch,)."""
        alpha, sigma = self._weights_at(timesteps, clean)
        return (alpha * clean + sigma * noise).to(torch.promote_types(clean.dtype, noise.dtype))

    def _weights_at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at timesteps, (batch,), shaped to weigh `like`, in float32 or wider."""
        signal = self.alphas_cumprod.double()
        table = torch.stack([signal.sqrt(), (1 - signal).sqrt()])
        table = table.to(like.device, torch.promote_types(like.dtype, torch.float32), non_blocking=True)
        alpha, sigma = table[:, timesteps.to(like.device).flatten()].view(2, -1, *[1] * (like.ndim - 1))
        return alpha, sigma


class SigmaScheduler(TrainedScheduler, Generic[RunType]):
    """Settings whose runs follow sigmas, ratios of noise to signal, by a table or by a rule."""

    _run_type: type[RunType]
    _least_signal = 2.0**-24  # so that sigmas stay finite

    def _train(self) -> None:
        super()._train()
        self._table = SigmaTable.of(self.alphas_cumprod)
        self._respacing = respacing_of(self.config)

    def _trained(self) -> tuple[Levels, Levels]:
        """All timesteps of the training and their sigmas, with the end."""
        return np.arange(len(self) - 1, -1, -1.0), np.append(self._table.sigmas[::-1], 0.0)

    def _ends(self, first: float, last: float) -> tuple[float, float]:
        """Between which respaced sigmas lie: those of the settings, or else these."""
        highest, lowest = self.config.get("sigma_max"), self.config.get("sigma_min")
        return float(first if highest is None else highest), float(last if lowest is None else lowest)

"""The two solvers that CogVideoX is published with (arXiv:2408.06072), over a schedule with shifted signal."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.ddim import DDIMScheduler
from filmstrip.schedulers.diffusion import beta_table, without_signal_at_the_end
from filmstrip.schedulers.discrete import DenoisedOutput, DiscreteRun, DiscreteScheduler, Ending, Transition, told
from filmstrip.schedulers.dpm import extrapolated
from filmstrip.schedulers.prediction import Estimator, Level, combine
from filmstrip.schedulers.schedule import Numbers
from filmstrip.schedulers.settings import Exact, WithoutSignal, setting, taking

_UNUSED = "an entry of published configs, without effect: the solvers of this model never clip."


@dataclass(frozen=True, eq=False)
class CogVideoXSettings(WithoutSignal, Exact, Ending):
    """Settings of a schedule with shifted signal."""

    beta_start: float = 0.00085
    beta_end: float = 0.0120
    beta_schedule: str = "scaled_linear"
    _: KW_ONLY
    clip_sample: bool = setting(_UNUSED, True)
    clip_sample_range: float = setting(_UNUSED, 1.0)
    sample_max_value: float = setting(_UNUSED, 1.0)
    snr_shift_scale: float = setting("the signal-to-noise ratio is divided by it.", 3.0)


class _CogVideoXScheduler(DiscreteScheduler):
    @taking(CogVideoXSettings)
    def __init__(self, settings: CogVideoXSettings) -> None:
        self.betas = beta_table(
            settings.beta_schedule,
            settings.beta_start,
            settings.beta_end,
            settings.num_train_timesteps,
            settings.trained_betas,
            dtype=torch.float64,
        )
        signal = torch.cumprod(1.0 - self.betas, dim=0)
        signal = signal / (settings.snr_shift_scale + (1 - settings.snr_shift_scale) * signal)
        self.alphas_cumprod = without_signal_at_the_end(signal) if settings.rescale_betas_zero_snr else signal
        self.final_alpha_cumprod = torch.tensor(1.0) if settings.set_alpha_to_one else self.alphas_cumprod[0]
        self._estimator = Estimator(settings.prediction_type)
        self._hold_training()


class CogVideoXDDIMScheduler(_CogVideoXScheduler, DDIMScheduler):
    """Settings of DDIM over whole-number timesteps."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CogVideoXDPMRun(DiscreteRun):
    """Stochastic DPM-Solver++ of second order (arXiv:2211.01095), which remembers the step before."""

    history: list[tuple[Level, Tensor]] = field(default_factory=list, init=False, repr=False)

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        transition = self.transitions[step_index]
        before = self.history[-1] if self.history else None
        denoised = self.estimator.clean(prediction, latents, transition.level)
        self.history[:] = [(transition.level, denoised)]
        return _dpm_step(denoised, latents, transition, before, generator)


class CogVideoXDPMScheduler(_CogVideoXScheduler):
    """Settings of stochastic DPM-Solver++ of second order, over whole-number timesteps."""

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        generator: Generators = None,
    ) -> CogVideoXDPMRun:
        schedule = self._schedule(num_inference_steps, timesteps)
        return CogVideoXDPMRun(*schedule, estimator=self._estimator, generator=generator)

    def step(
        self,
        model_output: Tensor,
        old_pred_original_sample: Tensor | None,
        timestep: int | Tensor,
        timestep_back: int | Tensor | None,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generators = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = False,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step from any timestep.

        Args:
            old_pred_original_sample: the estimate of the step before, if there was one.
            timestep_back: the timestep of the step before.
            eta: belongs to DDIM; this solver draws the share of noise that its equation asks for.
            use_clipped_model_output: without effect, since nothing is clipped.
            variance_noise: used instead of noise from `generator`.
        """
        if eta != 0:
            raise ValueError(f"eta belongs to DDIM, and this solver's noise has no such setting; got eta={eta:g}.")
        transition = self._transition_from(timestep)
        before = None
        if old_pred_original_sample is not None and timestep_back is not None:
            before = self._level(int(self._value(timestep_back))), old_pred_original_sample
        denoised = self._estimator.clean(model_output, sample, transition.level)
        latents = _dpm_step(denoised, sample, transition, before, generator, variance_noise)
        return told(latents, denoised, torch.promote_types(sample.dtype, model_output.dtype), return_dict)


def _dpm_step(
    denoised: Tensor,
    latents: Tensor,
    transition: Transition,
    before: tuple[Level, Tensor] | None,
    generator: Generators,
    noise: Tensor | None = None,
) -> Tensor:
    """The next latents if the clean estimate is linear in the logarithm of signal to noise, with fresh noise.

    The reference draws noise for a step of first order first, and once more if it can take one of second order.
    """
    known = [(transition.level, denoised)]
    if before is not None and not transition.is_final:
        known.append(before)
    move, weights = extrapolated([level for level, _ in known], transition.next_level, "sde-dpmsolver++")
    terms = [(move.scale, latents), *zip(weights, (estimate for _, estimate in known), strict=True)]
    if move.fresh > 0:
        for _ in known if noise is None else ():
            drawn = draw_noise(latents.shape, generator, latents.device, latents.dtype)
        terms.append((move.fresh, drawn if noise is None else noise))
    return combine(*terms)

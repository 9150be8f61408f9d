"""The two solvers that CogVideoX is published with (arXiv:2408.06072), over a schedule with shifted signal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.ddim import DDIMScheduler
from filmstrip.schedulers.diffusion import SPACINGS, beta_table, without_signal_at_the_end
from filmstrip.schedulers.discrete import DenoisedOutput, DiscreteRun, DiscreteScheduler, Transition
from filmstrip.schedulers.dpm import extrapolated
from filmstrip.schedulers.prediction import PREDICTION_TYPES, Estimator, Level, combine
from filmstrip.schedulers.schedule import Numbers, check_choice


class _CogVideoXScheduler(DiscreteScheduler):
    """Settings of a schedule in whole-number timesteps.

    Args:
        num_train_timesteps: how many timesteps the network was trained with.
        beta_start, beta_end, beta_schedule: variance of the noise that each timestep adds.
        trained_betas: these variances themselves.
        set_alpha_to_one: the last step ends in clean latents, instead of at the level of timestep 0.
        steps_offset: added to the timesteps of the leading spacing.
        prediction_type: what the network predicts.
        timestep_spacing: how the timesteps of a run are spread over those of the training.
        rescale_betas_zero_snr: the first timestep of a run is pure noise.
        snr_shift_scale: the signal-to-noise ratio is divided by it.
        clip_sample, clip_sample_range, sample_max_value: entries of published configs, without effect: the solvers
            of this model never clip.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.0120,
        beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear",
        trained_betas: Numbers | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon",
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading",
        rescale_betas_zero_snr: bool = False,
        snr_shift_scale: float = 3.0,
    ) -> None:
        self.betas = beta_table(
            beta_schedule, beta_start, beta_end, num_train_timesteps, trained_betas, dtype=torch.float64
        )
        signal = torch.cumprod(1.0 - self.betas, dim=0)
        signal = signal / (snr_shift_scale + (1 - snr_shift_scale) * signal)
        self.alphas_cumprod = without_signal_at_the_end(signal) if rescale_betas_zero_snr else signal
        self.final_alpha_cumprod = torch.tensor(1.0) if set_alpha_to_one else self.alphas_cumprod[0]
        check_choice("prediction_type", prediction_type, PREDICTION_TYPES[:3])
        check_choice("timestep_spacing", timestep_spacing, SPACINGS)
        self._estimator = Estimator(prediction_type)
        self._hold_training()


class CogVideoXDDIMScheduler(_CogVideoXScheduler, DDIMScheduler):
    __doc__ = f"DDIM. {_CogVideoXScheduler.__doc__}"


@dataclass(frozen=True, eq=False)
class CogVideoXDPMRun(DiscreteRun):
    """Stochastic DPM-Solver++ of second order (arXiv:2211.01095), which remembers the step before."""

    estimator: Estimator
    generator: Generators = None
    history: list[tuple[Level, Tensor]] = field(default_factory=list, init=False, repr=False)

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one step, computed in float32 or wider.

        Args:
            generator: of the noise that each step adds; the run's own if None.
        """
        transition = self.transitions[step_index]
        before = self.history[-1] if self.history else None
        denoised = self.estimator.clean(prediction, latents, transition.level)
        self.history[:] = [(transition.level, denoised)]
        generator = self.generator if generator is None else generator
        stepped = _dpm_step(denoised, latents, transition, before, generator)
        return stepped.to(torch.promote_types(latents.dtype, prediction.dtype))


class CogVideoXDPMScheduler(_CogVideoXScheduler):
    __doc__ = f"Stochastic DPM-Solver++ of second order. {_CogVideoXScheduler.__doc__}"

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        generator: Generators = None,
    ) -> CogVideoXDPMRun:
        """The schedule and solver of one generation.

        Args:
            timesteps: whole numbers from noise to clean, instead of evenly spaced ones.
            generator: of the noise that each step adds.
        """
        return CogVideoXDPMRun(*self._schedule(num_inference_steps, timesteps), self._estimator, generator)

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
        dtype = torch.promote_types(sample.dtype, model_output.dtype)
        latents, denoised = latents.to(dtype), denoised.to(dtype)
        return DenoisedOutput(latents, denoised) if return_dict else (latents, denoised)


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

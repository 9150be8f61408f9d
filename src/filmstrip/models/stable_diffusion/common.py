"""What the pipelines of Stable Diffusion share: components, defaults, prompts, sampling and decoding."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.generation.beginning import initial_latents
from filmstrip.generation.events import Step
from filmstrip.generation.guidance import Guidance, Split, away_from_negatives
from filmstrip.generation.output import Report
from filmstrip.generation.prompts import (
    Prompts,
    embeddings,
    encode_clip_text,
    encode_prompts,
    encoded_prompts,
    num_clip_parts,
)
from filmstrip.generation.request import check_shape, check_steps, prompted
from filmstrip.generation.resolve import Rules, resolve
from filmstrip.memory.coding import Coding
from filmstrip.memory.offloading import tell_once
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import (
    AnySession,
    Control,
    ImageOutput,
    PictureArguments,
    PictureConditions,
    PictureRequest,
    RequestType,
)
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL
from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel
from filmstrip.nn.attention_layers import remembering_prompts
from filmstrip.nn.embeddings import sinusoidal_embedding
from filmstrip.randomness import Generators
from filmstrip.schedulers import Run
from filmstrip.schedulers.flows import started

logger = logging.getLogger(__name__)


class StableDiffusionBase(Pipeline):
    """Components of Stable Diffusion (arXiv:2112.10752), and the parts of its recipes that do not differ."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    family_defaults: ClassVar[dict[str, Any]] = {"num_inference_steps": 50, "guidance_scale": 7.5}
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "prompt_embeds", "negative_prompt_embeds")
    _optional_components: ClassVar[tuple[str, ...]] = ("safety_checker", "feature_extractor", "image_encoder")
    _left_out: ClassVar[tuple[str, ...]] = ("safety_checker", "feature_extractor", "image_encoder")
    follows_flow: ClassVar[bool | None] = False
    _latents_per_call: ClassVar[int] = 1
    """Latents that the U-Net is given side by side: the noisy ones, and those of a picture if it changes one."""
    _frame_dim: ClassVar[int | None] = None
    """The axis of frames of the latents that a run starts from, if there is one."""
    _skips_for_negatives: ClassVar[bool] = False
    """Whether layers of the text encoder that are left out are so for negative prompts, too."""

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        scheduler: Any,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = False,
    ) -> None:
        if safety_checker is not None:
            logger.warning("Pictures are not judged here: the safety checker is left out.")
        super().__init__(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=self._usable(scheduler),
            safety_checker=None,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
            requires_safety_checker=requires_safety_checker,
        )

    @classmethod
    def _usable(cls, scheduler: Any) -> Any:
        """The scheduler, or another one where what a checkpoint has must not be used as it is."""
        return scheduler

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, and the size that the U-Net was trained for."""
        if self.unet is None or self.vae is None:  # prompts can be encoded without the networks
            return dict(self.family_defaults)
        size, ratio = self.unet.config.sample_size or 64, self.vae.spatial_compression_ratio
        rows, columns = size if isinstance(size, (list, tuple)) else (size, size)
        return {"height": rows * ratio, "width": columns * ratio, **self.family_defaults}

    @property
    def rules(self) -> Rules:
        """The sizes that these components can make."""
        ratio = self.vae.spatial_compression_ratio
        return Rules("Stable Diffusion", ratio, f"VAE {ratio}", ratio, 1, frame_stride=1, frame_offsets=(0,))

    # ---- switches ------------------------------------------------------------------------------------------------

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """Strengthen the U-Net's stream and weaken its skips (arXiv:2309.11497); see its `enable_freeu`."""
        self.unet.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)

    def disable_freeu(self) -> None:
        """Join the U-Net's stream and skips as they are again."""
        self.unet.disable_freeu()

    def fuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Nothing, for code written for Diffusers: the numbers are the same, fused or not."""
        tell_once("Queries, keys and values are projected one by one here: fuse_qkv_projections changes nothing.")

    def unfuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Nothing, as `fuse_qkv_projections`."""

    # ---- what is asked for ---------------------------------------------------------------------------------------

    def check_components(self) -> None:
        """See that the U-Net takes what this pipeline gives it."""
        takes, gives = self.unet.config.in_channels, self._latents_per_call * self.vae.config.latent_channels
        if takes != gives:
            model = self.name_or_path or "The checkpoint"
            raise ValueError(
                f"{model} is made for another task: its U-Net takes {takes} channels, and {type(self).__name__} gives"
                f" it {gives}."
            )

    def checked(
        self,
        kind: Callable[..., RequestType],
        arguments: PictureArguments,
        size: tuple[int, int],
        num_frames: int = 1,
        frame_rate: float | None = None,
        **found: Any,
    ) -> RequestType:
        """The request that a call's completed arguments make, of that class, for a size (height, width)."""
        self.check_components()
        rate = self.defaults.get("frame_rate", 1) if frame_rate is None else frame_rate
        resolved = resolve(self.rules, height=size[0], width=size[1], num_frames=num_frames, frame_rate=rate)
        schedules = arguments.own_schedule
        if len(schedules) > 1:
            raise ValueError("Both timesteps and sigmas were given; pass only one of them.")
        schedule = next(iter(schedules.values()), None)
        check_steps(arguments.num_inference_steps, schedule, self.defaults["num_inference_steps"])
        self._check_clip_skip(arguments.layers_left_out)
        self._check_processors(arguments.for_processors or {})
        request = prompted(kind, arguments, resolved, self._callback_tensor_inputs, **found)
        if arguments.latents is not None:
            check_shape("latents", arguments.latents, self.latent_shape(request), asked_for="size")
        self.start(request)  # says what is wrong with a schedule
        return request

    def _check_clip_skip(self, skip: int | None) -> None:
        if skip is None or self.text_encoder is None:
            return
        layers = self.text_encoder.config.num_hidden_layers
        if not 0 <= skip < layers:
            raise ValueError(f"clip_skip must be between 0 and {layers - 1}, the text encoder's layers, got {skip}.")

    def _check_processors(self, kwargs: Mapping[str, Any]) -> None:
        for processor in set(map(type, self.unet.attn_processors.values())) if kwargs else ():
            takes = inspect.signature(processor.__call__).parameters
            if unknown := [name for name in kwargs if name not in takes]:
                names = ", ".join(unknown)
                raise ValueError(f"cross_attention_kwargs has {names}, which {processor.__name__} does not take.")

    # ---- prompts -------------------------------------------------------------------------------------------------

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        device: str | torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        clip_skip: int | None = None,
        long_prompts: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Embeddings of prompts and of negative prompts: what a call takes in place of texts.

        Args:
            device: where the embeddings are wanted; where the text encoder is if None.
        """
        embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        encode = partial(self._encode, (clip_skip, long_prompts))
        rows: dict[str, Any] = {"is_guided": do_classifier_free_guidance, "times": num_images_per_prompt}
        return embeddings(encode, prompt, negative_prompt, embeds, **rows, device=device)

    def encode_prompts(self, session: AnySession) -> PictureConditions:
        """The prompts of a request, one row for each picture."""
        arguments = session.request.arguments
        encode = partial(self._encode, (arguments.layers_left_out, arguments.long_prompts))
        return PictureConditions.of(encoded_prompts(session, encode))

    def _encode(
        self,
        options: tuple[int | None, bool],  # layers left out of the text encoder, and whether prompts may be long
        texts: Sequence[str] | None,
        negatives: Sequence[str] | None,
        embeds: Mapping[str, Tensor | None],
    ) -> Prompts:
        clip_skip, long_prompts = options
        if texts is None and negatives is None:  # then there may be no tokenizer either
            given: dict[str, Any] = {name: one for name, one in embeds.items() if one is not None}
            return Prompts(**given)
        if self.tokenizer is None or self.text_encoder is None:
            raise ValueError("texts need a tokenizer and a text_encoder; pass them, or embeddings.")
        self._check_clip_skip(clip_skip)  # again: a request that was made without the encoder's weights could not
        window = self.tokenizer.model_max_length
        parts = num_clip_parts(self.tokenizer, [*(texts or ()), *(negatives or ())]) if long_prompts else 1

        def encode(some: Sequence[str], length: int, skip: int | None = None) -> Prompts:
            return encode_clip_text(self.tokenizer, self.text_encoder, some, skip=skip, num_parts=length // window)

        # As in the reference, pipelines of pictures leave out layers for the prompts and not for the negative prompts.
        encode_positive = partial(encode, skip=clip_skip)
        encode_negative = encode_positive if self._skips_for_negatives else encode
        return encode_prompts(parts * window, encode_positive, texts, negatives, embeds, encode_negative)

    # ---- sampling ------------------------------------------------------------------------------------------------

    def start(self, request: PictureRequest[PictureArguments]) -> Run:
        """The run's own schedule."""
        arguments = request.arguments
        steps: Mapping[str, Any] = arguments.own_schedule or {"num_inference_steps": arguments.num_steps}
        return started(self.scheduler, **steps, **({"eta": arguments.eta} if arguments.eta else {}))

    def latent_shape(self, request: PictureRequest[Any]) -> tuple[int, ...]:
        """Batch, channels, height and width of the latents."""
        return (request.num_videos, self.vae.config.latent_channels, *request.size.latent_size[1:])

    def initial_noise(self, session: AnySession, run: Run) -> Tensor:
        """The latents that a run starts from: the call's, or noise."""
        shape, device = self.latent_shape(session.request), execution_device(self.unet)
        return initial_latents(session, shape, device, frame_dim=self._frame_dim) * run.init_noise_sigma

    def sample(
        self,
        session: AnySession,
        conditions: PictureConditions,
        latents: Tensor,
        run: Run,
        control: Control | None = None,
        *,
        unet: Any = None,
        split: Split[PictureConditions] | None = None,
        scale: float | None = None,
        span: tuple[int, int | None] = (0, None),
        generator: Generators = None,
    ) -> Iterator[Step]:
        """Yield the latents, (batch, channels, height, width), after every step.

        Args:
            unet, generator: in place of the pipeline's and of the session's own.
            split: in place of guidance away from the negative prompts.
            scale: of the guidance, in place of the call's.
            span: the first step to be made, and the first that is not.
        """
        arguments = session.request.arguments
        unet = self.unet if unet is None else unet
        present = arguments.guidance if scale is None else scale
        is_distilled = unet.config.time_cond_proj_dim is not None

        @remembering_prompts
        def predict(latents: Tensor, timestep: float, given: PictureConditions) -> Tensor:
            latents = latents.to(unet.dtype)
            more: dict[str, Any] = {"cross_attention_kwargs": arguments.for_processors}
            if is_distilled:
                rows = latents.new_full((len(latents),), present - 1)
                more["timestep_cond"] = guidance_scale_embedding(rows, unet.config.time_cond_proj_dim).to(latents)
            if control is not None:
                more.update(control(latents, index, given))
            # Sizes stay in float32: half precision rounds them.
            added = {"text_embeds": given.pooled_prompt_embeds, "time_ids": given.sizes}
            if told := {name: one for name, one in added.items() if one is not None}:
                more["added_cond_kwargs"] = told
            return unet(latents, timestep, given.prompt_embeds, **more, return_dict=False)[0].float()

        def prepare(given: PictureConditions) -> PictureConditions:
            placed: dict[str, Any] = {name: one.to(device) for name, one in given.tensors.items()}
            return replace(given, **{**placed, "prompt_embeds": given.prompt_embeds.to(device, unet.dtype)})

        device = execution_device(unet)
        guidance = Guidance(
            conditions,
            split or away_from_negatives(arguments),
            prepare,
            1.0 if is_distilled else present,  # the network itself was taught the guidance
            in_turn=arguments.sequential_guidance,
        )
        index, end = span  # counted here, since some solvers come back to a timestep
        for step in session.denoise(
            predict, latents, run, guidance, begin=index, end=end, generator=generator, network="unet"
        ):
            yield step
            if is_distilled:
                present, step.guidance_scale = step.guidance_scale or present, None
            index += 1

    # ---- decoding ------------------------------------------------------------------------------------------------

    def decode(
        self, session: AnySession, vae: AutoencoderKL, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the pictures, as videos of one frame."""
        latents = (latents / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
        yield torch.cat(list(vae.decode_stream(latents, coding=coding))).unsqueeze(2)  # (batch, 3, 1, height, width)

    def output(self, frames: Any, report: Report) -> Any:
        """The pictures of a run."""
        if isinstance(frames, list):
            return ImageOutput([frame for video in frames for frame in video], report=report)
        is_video = isinstance(frames, (np.ndarray, Tensor)) and frames.ndim == 5
        return ImageOutput(frames[:, 0] if is_video else frames, report=report)


def guidance_scale_embedding(scale: Tensor, dim: int) -> Tensor:  # (batch,) to (batch, dim)
    """Waves of a guidance scale, for networks that were taught it (arXiv:2310.04378, section 4.3)."""
    waves = sinusoidal_embedding(1000 * scale, dim, flip_sin_to_cos=False, freq_shift=1)
    return torch.nn.functional.pad(waves, (0, dim % 2))

"""Training of the autoencoder: whole clips through encoder and decoder, compared pixel by pixel."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.outputs import DiagonalGaussian
from training.shapes import clips
from training.shapes.networks import LATENT_CHANNELS, build_autoencoder
from training.shapes.training import Trainee, averaged, save_strips

logger = logging.getLogger(__name__)

NUM_STEPS = 2000
DECODER_STEPS, OUTLINE_STEPS = 1300, 900
BATCH_SIZE = 8
LATENT_NOISE = 0.08  # times the latents' own deviation: the decoder must bear what the transformer gets wrong
MIXED_COLOURS = 0.06  # of the batches are in colours out of the palette


def draw_batch(rng: random.Random) -> Tensor:
    """Random clips, (batch, 3, frames, height, width)."""
    combinations = rng.choices(clips.COMBINATIONS, k=BATCH_SIZE)
    video = clips.draw(combinations, rng)
    if rng.random() < MIXED_COLOURS:
        mixed = torch.tensor([[rng.uniform(-1, 1) for _ in range(9)] for _ in combinations]).view(-1, 3, 3)
        video = torch.einsum("bij,bjfhw->bifhw", mixed, video).clamp(-1, 1)
    return video


def means(autoencoder: AutoencoderKLLTXVideo, video: Tensor) -> Tensor:
    """Latents as the encoder means them, not normalised."""
    posterior: DiagonalGaussian = autoencoder.encode(video, return_dict=False)[0]
    return posterior.mean


def reconstruct(autoencoder: AutoencoderKLLTXVideo, video: Tensor, generator: torch.Generator) -> Tensor:
    """The video after encoding and decoding, with a little noise on the latents."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = means(autoencoder, video)
        deviation = latents.detach().float().std((0, 2, 3, 4), keepdim=True)
        noise = LATENT_NOISE * deviation * torch.randn(latents.shape, generator=generator)
        reconstructed: Tensor = autoencoder.decode(latents + noise, return_dict=False)[0]
    return reconstructed.float()


def loss_of(reconstructed: Tensor, video: Tensor) -> Tensor:
    return (reconstructed - video).abs().mean() + 2 * (reconstructed - video).square().mean()


def psnr(error: float) -> float:
    """Decibels of a mean squared error between videos in [-1, 1]."""
    return float(10 * torch.log10(torch.tensor(4 / max(error, 1e-12))))


def train_autoencoder(out: Path, num_steps: int = NUM_STEPS, seed: int = 0) -> AutoencoderKLLTXVideo:
    """Train, or go on training, in `out`; the trained autoencoder with its averaged weights."""
    torch.manual_seed(seed)
    trainee = Trainee(
        {"vae": build_autoencoder()},
        random.Random(seed),
        torch.Generator().manual_seed(seed),
        num_steps=num_steps,
        ema_decay=0.995,
        muon_rate=0.016,
        adam_rate=1e-3,
    )
    state = out / "autoencoder.pt"
    trainee.resume(state)
    autoencoder: Any = trainee.networks["vae"]
    errors: list[float] = []
    begin = time.monotonic()
    while trainee.step < num_steps:
        video = draw_batch(trainee.rng)
        reconstructed = reconstruct(autoencoder, video, trainee.generator)
        norm = trainee.update(loss_of(reconstructed, video))
        errors.append(float((reconstructed.detach() - video).square().mean()))
        if trainee.step % 20 == 0:
            error, seconds = sum(errors) / len(errors), (time.monotonic() - begin) / len(errors)
            logger.info(
                "autoencoder step %d/%d: squared error %.5f (%.1f dB), gradient %.2f, %.2f s a step",
                *(trainee.step, num_steps, error, psnr(error), norm, seconds),
            )
            errors, begin = [], time.monotonic()
        if trainee.step % 100 == 0 or trainee.step == num_steps:
            trainee.save(state)
            check(trainee, out)
            begin = time.monotonic()
    averaged(autoencoder, trainee.averages["vae"])
    finish(autoencoder)
    trained: AutoencoderKLLTXVideo = autoencoder
    return trained


def sharpen(out: Path, autoencoder: Any, stage: str, num_steps: int, seed: int) -> None:
    """Go on training with a loss that looks at outlines: the `decoder` alone, or (`outlines`) the encoder as well."""
    network = autoencoder.decoder if stage == "decoder" else autoencoder
    generator = torch.Generator().manual_seed(seed)
    trainee = Trainee({stage: network}, random.Random(seed), generator, num_steps, 0.99, 0.005, 3e-4)
    state = out / f"{stage}.pt"
    trainee.resume(state)
    autoencoder.requires_grad_(False)
    network.requires_grad_(True)
    losses: list[float] = []
    begin = time.monotonic()
    while trainee.step < num_steps:
        video = draw_batch(trainee.rng)
        loss = outline_loss(reconstruct(autoencoder, video, trainee.generator), video)
        norm = trainee.update(loss)
        losses.append(float(loss.detach()))
        if trainee.step % 20 == 0:
            mean, seconds = sum(losses) / len(losses), (time.monotonic() - begin) / len(losses)
            logger.info(
                "%s step %d/%d: loss %.5f, gradient %.2f, %.2f s a step",
                *(stage, trainee.step, num_steps, mean, norm, seconds),
            )
            losses, begin = [], time.monotonic()
        if trainee.step % 100 == 0 or trainee.step == num_steps:
            trainee.save(state)
    averaged(network, trainee.averages[stage])
    autoencoder.requires_grad_(False)
    finish(autoencoder)


def outline_loss(reconstructed: Tensor, video: Tensor) -> Tensor:
    """Absolute error, which counts five times on and around the shape."""
    is_shape = (video - video[..., :1, :1]).abs().amax(1, keepdim=True) > 0.1
    near = functional.max_pool3d(is_shape.float(), (1, 7, 7), 1, (0, 3, 3))
    weight = 1 + 4 * near
    return ((reconstructed - video).abs() * weight).mean() / weight.mean()


@torch.no_grad()
def check(trainee: Trainee, out: Path) -> None:
    """Log what the averaged weights make of 16 clips that are always the same, and save a picture of some."""
    video = clips.draw(random.Random(1).choices(clips.COMBINATIONS, k=16), random.Random(2))
    autoencoder: Any = averaged(build_autoencoder(), trainee.averages["vae"])
    reconstructed = reconstruct(autoencoder, video, torch.Generator().manual_seed(0))
    error = (reconstructed - video).square()
    each = sorted(psnr(float(clip)) for clip in error.mean((1, 2, 3, 4)))
    logger.info(
        "autoencoder step %d: whole clips %.1f dB, first frames %.1f dB, worst clip %.1f dB",
        *(trainee.step, psnr(float(error.mean())), psnr(float(error[:, :, 0].mean())), each[0]),
    )
    rows = [row for pair in zip(video[:6], reconstructed[:6], strict=True) for row in pair]
    save_strips(out / "samples" / f"autoencoder-{trainee.step:05d}.png", rows)


@torch.no_grad()
def finish(autoencoder: Any, num_batches: int = 16) -> None:
    """Set what training leaves open: a posterior of no width, and the mean and deviation of the latents."""
    log_variance = autoencoder.encoder.conv_out.conv
    log_variance.weight[-1].zero_()
    log_variance.bias[-1] = -30.0
    rng = random.Random("latent statistics")
    batches = [clips.draw(rng.choices(clips.COMBINATIONS, k=16), rng) for _ in range(num_batches)]
    latents = torch.cat([means(autoencoder, batch) for batch in batches])
    per_channel = latents.movedim(1, 0).reshape(LATENT_CHANNELS, -1)
    autoencoder.latents_mean.copy_(per_channel.mean(1).bfloat16())  # as they are saved
    autoencoder.latents_std.copy_(per_channel.std(1).bfloat16())

"""Training of the transformer and the text encoder, together and from nothing, on latents of clips."""

from __future__ import annotations

import copy
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from filmstrip.generation.packing import pack_latents
from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.pipeline_text import LTXPipeline
from filmstrip.models.ltx.transformer import BASE_GRID
from training.shapes import clips
from training.shapes.captions import caption
from training.shapes.checkpoint import save_checkpoint
from training.shapes.evaluate import judge_text_to_video, save_samples
from training.shapes.latents import Examples, LatentStore
from training.shapes.networks import (
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    build_text_encoder,
    build_transformer,
)
from training.shapes.tokenizer import MAX_LENGTH, build_tokenizer
from training.shapes.training import Trainee

logger = logging.getLogger(__name__)

NUM_STEPS = 2450
BATCH_SIZE = 64
NUM_CHUNKS, FIRST_CHUNKS, STEPS_A_CHUNK = 64, 16, 80  # the store grows while training goes on
EMPTY_PROMPTS = 0.1  # of the examples, for guidance


@dataclass(frozen=True)
class Noised:
    """What the transformer is asked about a batch."""

    tokens: Tensor  # (batch, tokens, channels), each as noisy as its timestep says
    timesteps: Tensor  # 0 (clean) to 1000 (noise), (batch, tokens), or (batch,) where all tokens are alike
    coordinates: Tensor  # (batch, 3, tokens), shares of the base grid
    velocity: Tensor  # (batch, tokens, channels), noise minus clean
    counts: Tensor  # (batch, tokens), 1 where the answer counts and 0 where a token is given


def grid(frames: Tensor, size: int = clips.SIZE // SPATIAL_RATIO) -> Tensor:
    """Places of tokens, (batch, 3, tokens), as shares of the base grid, from (batch, latent frames) frame numbers."""
    batch, num_frames = frames.shape
    seconds = frames[:, :, None, None] / clips.FRAME_RATE
    pixels = torch.arange(size) * float(SPATIAL_RATIO)
    axes = (seconds, pixels[None, None, :, None], pixels[None, None, None, :])
    places = [axis.expand(batch, num_frames, size, size) / base for axis, base in zip(axes, BASE_GRID, strict=True)]
    return torch.stack(places, 1).flatten(2)


def add_noise(examples: Examples, generator: torch.Generator, rng: random.Random) -> Noised:
    """Noise a batch in one of the three ways that the pipelines do."""
    clean = pack_latents(examples.latents.float())  # (batch, tokens, channels)
    batch, num_tokens, _ = clean.shape
    num_frames = examples.latents.shape[2]
    per_frame = num_tokens // num_frames
    noise = torch.randn(clean.shape, generator=generator)
    level = torch.sigmoid(0.5 + 1.2 * torch.randn(batch, 1, generator=generator))  # more often noisy than not
    given = torch.zeros(batch, num_frames)
    frames = (torch.arange(num_frames) * TEMPORAL_RATIO).expand(batch, -1).float()
    kind = rng.random()
    is_conditioned = kind > 0.72  # as in LTXConditionPipeline: other times of the tokens, and any frames given
    if kind < 0.45:
        pass  # text to video
    elif not is_conditioned:
        given[:, 0] = 1  # image to video
    else:
        frames = (frames + 1 - TEMPORAL_RATIO).clamp_min(0)
        prefix = torch.tensor(rng.choices((0, 1, 2, 3), (0.4, 0.4, 0.12, 0.08), k=batch))
        given = (torch.arange(num_frames) < prefix[:, None]).float()
    coordinates = grid(frames)
    if is_conditioned and rng.random() < 0.5:
        keyframes = pack_latents(examples.keyframes.float())
        clean, noise = torch.cat([keyframes, clean], 1), torch.cat([torch.zeros_like(keyframes), noise], 1)
        given = torch.cat([torch.ones(batch, 1), given], 1)
        coordinates = torch.cat([grid(examples.places[:, None].float()), coordinates], 2)
    is_given = given.repeat_interleave(per_frame, 1)
    levels = level * (1 - is_given)
    velocity = noise - clean
    tokens = clean + levels[..., None] * velocity
    if is_conditioned and rng.random() < 0.5:
        loosened = 0.15 * level.square() * is_given
        tokens = tokens + loosened[..., None] * torch.randn(tokens.shape, generator=generator)
    timesteps = 1000 * (levels if bool(is_given.any()) else level[:, 0])
    return Noised(tokens, timesteps, coordinates, velocity, 1 - is_given)


def encode_captions(text_encoder: Any, tokenizer: Any, texts: list[str], masks_encoder: bool) -> tuple[Tensor, Tensor]:
    """Embeddings and mask of captions; with the mask or padded in full, as pipelines differ in this."""
    encodings = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    longest = max(len(ids) for ids in encodings) if masks_encoder else MAX_LENGTH
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, one in enumerate(encodings):
        ids[row, : len(one)] = torch.tensor(one)
    mask = ids != 0
    embeds: Tensor = text_encoder(ids, attention_mask=mask if masks_encoder else torch.ones_like(ids))[0]
    longest = int(mask.sum(1).max())
    return embeds[:, :longest], mask[:, :longest]


def loss_of(networks: dict[str, Any], tokenizer: Any, examples: Examples, trainee: Trainee) -> Tensor:
    """Mean squared error of the velocity, over the tokens that are not given."""
    rng = trainee.rng
    combinations = [clips.COMBINATIONS[number] for number in examples.numbers.tolist()]
    texts = ["" if rng.random() < EMPTY_PROMPTS else caption(one, rng).lower() for one in combinations]
    noised = add_noise(examples, trainee.generator, rng)
    masks_encoder = rng.random() < 0.6
    # On a CPU the gradient of plain attention is faster than that of the fused one.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        embeds, mask = encode_captions(networks["text_encoder"], tokenizer, texts, masks_encoder)
        transformer = networks["transformer"]
        (velocity,) = transformer(
            noised.tokens,
            embeds,
            noised.timesteps,
            mask,
            rotary=transformer.rotary(noised.coordinates),
            return_dict=False,
        )
    error = (velocity.float() - noised.velocity).square().mean(-1)
    loss: Tensor = (error * noised.counts).sum() / noised.counts.sum()
    return loss


def build_trainee(num_steps: int, seed: int) -> Trainee:
    torch.manual_seed(seed)
    vocab_size = build_tokenizer().get_vocab_size()
    return Trainee(
        {"text_encoder": build_text_encoder(vocab_size), "transformer": build_transformer()},
        random.Random(seed),
        torch.Generator().manual_seed(seed),
        num_steps=num_steps,
        ema_decay=0.998,
        muon_rate=0.02,
        adam_rate=1e-3,
    )


def train_transformer(
    out: Path, autoencoder: AutoencoderKLLTXVideo, num_steps: int = NUM_STEPS, seed: int = 0
) -> Trainee:
    """Train, or go on training, in `out`."""
    trainee = build_trainee(num_steps, seed)
    state = out / "transformer.pt"
    trainee.resume(state)
    store = LatentStore(out / "latents", autoencoder)
    tokenizer = build_tokenizer()
    losses: list[float] = []
    begin = time.monotonic()
    while trainee.step < num_steps:
        store.grow(min(NUM_CHUNKS, FIRST_CHUNKS + trainee.step // STEPS_A_CHUNK))
        loss = loss_of(trainee.networks, tokenizer, store.draw(BATCH_SIZE, trainee.rng), trainee)
        norm = trainee.update(loss)
        losses.append(float(loss.detach()))
        if trainee.step % 20 == 0:
            seconds = (time.monotonic() - begin) / len(losses)
            logger.info(
                "transformer step %d/%d: loss %.4f, gradient %.2f, %.2f s a step",
                *(trainee.step, num_steps, sum(losses) / len(losses), norm, seconds),
            )
            losses, begin = [], time.monotonic()
        if trainee.step % 100 == 0 or trainee.step == num_steps:
            trainee.save(state)
        if trainee.step % 400 == 0:
            check(trainee, autoencoder, out)
            begin = time.monotonic()
    return trainee


def check(trainee: Trainee, autoencoder: AutoencoderKLLTXVideo, out: Path) -> None:
    """Log how the judge likes the averaged weights' videos of some held-out prompts, and save a picture."""
    folder = out / "unfinished"
    save_checkpoint(folder, copy.deepcopy(autoencoder), trainee)
    pipeline = LTXPipeline.from_pretrained(folder)
    with torch.random.fork_rng():
        save_samples(pipeline, out / "samples" / f"transformer-{trainee.step:05d}.png")
        table = judge_text_to_video(pipeline, 34)
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in table.items())
    logger.info("transformer step %d: %s", trainee.step, shares)

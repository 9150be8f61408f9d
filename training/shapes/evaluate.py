"""Measure the model on prompts that it was not trained on: `python -m training.shapes.evaluate [FOLDER]`."""

from __future__ import annotations

import argparse
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from filmstrip.models.ltx.pipeline_image import LTXImageToVideoPipeline
from filmstrip.models.ltx.pipeline_text import LTXPipeline
from training.shapes import clips
from training.shapes.captions import caption, plain_caption
from training.shapes.clips import Combination
from training.shapes.judge import judge
from training.shapes.training import save_strips

logger = logging.getLogger(__name__)

BATCH_SIZE = 17


def held_out_prompts(count: int, rng: random.Random) -> list[tuple[Combination, str]]:
    """Combinations that training never showed, in turn, the first round in the usual wording."""
    _, held_out = clips.split()
    rounds = [held_out[number % len(held_out)] for number in range(count)]
    return [
        (one, plain_caption(one) if number < len(held_out) else caption(one, rng)) for number, one in enumerate(rounds)
    ]


def to_uint8(video: Tensor) -> Tensor:
    """Pixels of 0 to 255 from [-1, 1]."""
    return ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def judge_drawn(count: int, seed: int = 11) -> dict[str, float]:
    """How often the judge is right about clips as they are drawn."""
    rng = random.Random(seed)
    hits: Counter[str] = Counter()
    for _ in range(0, count, 50):
        combinations = rng.choices(clips.COMBINATIONS, k=50)
        for one, video in zip(combinations, to_uint8(clips.draw(combinations, rng)), strict=True):
            _score(hits, one, video.movedim(0, -1).numpy())
    return _shares(hits, -(-count // 50) * 50)


def judge_text_to_video(pipeline: Any, count: int, seed: int = 0, **settings: Any) -> dict[str, float]:
    """How often the model's videos of held-out prompts show each part of the prompt."""
    hits: Counter[str] = Counter()
    misses: list[str] = []
    for batch in _batches(held_out_prompts(count, random.Random(seed))):
        texts = [text for _, text in batch]
        generators = [torch.Generator().manual_seed(seed + hash_of(text)) for text in texts]
        videos = pipeline(prompt=texts, generator=generators, output_type="uint8", **settings).frames
        for (one, text), frames in zip(batch, videos, strict=True):
            seen = _score(hits, one, frames)
            if seen != one:
                misses.append(f"{text}: {' '.join(seen)}")
    for miss in misses[:12]:
        logger.info("missed: %s", miss)
    return _shares(hits, count)


def judge_image_to_video(pipeline: Any, count: int, seed: int = 0, **settings: Any) -> dict[str, float]:
    """The same from a drawn first frame, and how well that frame is kept (PSNR in dB: mean and worst)."""
    rng = random.Random(seed)
    hits: Counter[str] = Counter()
    kept: list[float] = []
    for batch in _batches(held_out_prompts(count, rng)):
        drawn = to_uint8(clips.draw([one for one, _ in batch], rng)[:, :, 0]).movedim(1, -1).numpy()
        texts = [text for _, text in batch]
        generators = [torch.Generator().manual_seed(seed + hash_of(text)) for text in texts]
        images = [np.ascontiguousarray(image) for image in drawn]
        videos = pipeline(
            image=[Image.fromarray(image) for image in images],
            prompt=texts,
            generator=generators,
            output_type="uint8",
            **settings,
        )
        for (one, _), image, frames in zip(batch, images, videos.frames, strict=True):
            _score(hits, one, frames)
            error = float(np.square(frames[0].astype(float) - image).mean())
            kept.append(10 * float(np.log10(255**2 / max(error, 1e-6))))
    return {**_shares(hits, count), "first frame, dB": float(np.mean(kept)), "worst first frame, dB": min(kept)}


def hash_of(text: str) -> int:
    """A number that belongs to a text on every machine."""
    return random.Random(text).randrange(2**31)


def _batches(prompts: list[tuple[Combination, str]]) -> Iterator[list[tuple[Combination, str]]]:
    for begin in range(0, len(prompts), BATCH_SIZE):
        yield prompts[begin : begin + BATCH_SIZE]


def _score(hits: Counter[str], wanted: Combination, frames: Any) -> Combination:
    seen = judge(frames)
    for part in Combination._fields:
        hits[part] += getattr(seen, part) == getattr(wanted, part)
    hits["all four"] += seen == wanted
    return seen


def _shares(hits: Counter[str], count: int) -> dict[str, float]:
    return {name: hits[name] / count for name in (*Combination._fields, "all four")}


def save_samples(pipeline: Any, path: Path, **settings: Any) -> None:
    """A picture of the videos of twelve held-out prompts, a row each."""
    texts = [text for _, text in held_out_prompts(12, random.Random(0))]
    generators = [torch.Generator().manual_seed(number) for number in range(len(texts))]
    videos = pipeline(prompt=texts, generator=generators, output_type="uint8", **settings).frames
    save_strips(path, [torch.from_numpy(video).movedim(-1, 0) / 127.5 - 1 for video in videos])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="shapes", help="the checkpoint; without it, the built-in one")
    parser.add_argument("--prompts", type=int, default=204)
    parser.add_argument("--images", type=int, default=102)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="denoising steps; without it, the checkpoint's default")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--samples", type=Path, help="where to save a picture of some videos")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = {"num_inference_steps": options.steps, "guidance_scale": options.guidance_scale}
    pipeline = LTXPipeline.from_pretrained(options.folder)
    if options.samples:
        save_samples(pipeline, options.samples, **settings)
    tables = {"drawn clips": judge_drawn(2000)}
    tables["text to video"] = judge_text_to_video(pipeline, options.prompts, options.seed, **settings)
    if options.images:
        from_image = LTXImageToVideoPipeline(**pipeline.components)
        from_image.defaults = pipeline.defaults
        tables["image to video"] = judge_image_to_video(from_image, options.images, options.seed, **settings)
    for title, table in tables.items():
        parts = (
            f"{name} {value:.1f}" if "dB" in name else f"{name} {100 * value:.1f} %" for name, value in table.items()
        )
        logger.info("%s: %s", title, ", ".join(parts))


if __name__ == "__main__":
    main()

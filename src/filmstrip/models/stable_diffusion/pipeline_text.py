"""Stable Diffusion: text to picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from filmstrip.configuration import Config
from filmstrip.generation.arguments import Prompted, Rescaled, Sampled, Sized, call
from filmstrip.generation.events import Step
from filmstrip.models.stable_diffusion.arguments import (
    AnySession,
    ImageOutput,
    PictureConditions,
    Pictured,
    PictureRequest,
    Scheduled,
    Skipping,
    asked_size,
)
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.records import record

logger = logging.getLogger(__name__)


@record("stable diffusion text arguments")
@dataclass(frozen=True, eq=False)
class TextArguments(Pictured, Skipping, Rescaled, Scheduled, Sampled, Sized, Prompted):
    """What text to picture takes."""


class StableDiffusionPipeline(StableDiffusionBase):
    """Makes a picture from a text (arXiv:2112.10752).

    Schedulers with the settings of the first releases get those of today: `steps_offset=1`, `clip_sample=False`.
    """

    __call__ = call(TextArguments, ImageOutput, "Generate pictures.")

    def check(self, arguments: TextArguments) -> PictureRequest[TextArguments]:
        arguments.check()
        return self.checked(PictureRequest[TextArguments], arguments, asked_size(arguments))

    def encode(self, session: AnySession) -> PictureConditions:
        """The prompts of a request."""
        return self.encode_prompts(session)

    def steps(self, session: AnySession, conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(session.request)
        yield from self.sample(session, conditions, self.initial_noise(session, run), run)

    @classmethod
    def _usable(cls, scheduler: Any) -> Any:
        """The scheduler, or one with other settings where files of the first releases have them wrong or not at all."""
        config = getattr(scheduler, "config", Config({}))
        wanted = {"steps_offset": 1, "clip_sample": False}
        mended = {name: value for name, value in wanted.items() if config.get(name, value) != value}
        if not mended:
            return scheduler
        settings = " and ".join(f"{name}={value}" for name, value in mended.items())
        logger.warning("The scheduler's settings are those of an early release; used instead: %s.", settings)
        other = type(scheduler).from_config(config, **mended)
        # As in the reference, what the files did not say is for the next class to decide, if the scheduler is swapped.
        other.config = Config(other.config, config.keys() - config.chosen().keys(), config.foreign())
        return other

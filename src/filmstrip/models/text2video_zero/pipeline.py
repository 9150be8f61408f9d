"""Text2Video-Zero: videos from an image model, without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from filmstrip.generation.arguments import Prompted, Sampled, Sized, call
from filmstrip.generation.events import Step
from filmstrip.generation.session import Session
from filmstrip.models.stable_diffusion.arguments import PictureConditions, asked_size
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.text2video_zero.recipe import (
    Moving,
    MovingRequest,
    TextToVideoPipelineOutput,
    Video,
    VideosOfPictures,
    checked_arguments,
    checked_recipe,
    video_steps,
)
from filmstrip.records import record


@record("text2video-zero arguments")
@dataclass(frozen=True, eq=False)
class VideoArguments(Moving, Sampled, Sized, Video, Prompted):
    """What text to video takes."""


class TextToVideoZeroPipeline(VideosOfPictures, StableDiffusionBase):
    """Makes a video from a text with an image model: its first frame, moved, and denoised again (arXiv:2303.13439)."""

    __call__ = call(VideoArguments, TextToVideoPipelineOutput, "Generate videos.")

    def check(self, arguments: VideoArguments) -> MovingRequest:
        """The request that a call's completed arguments make."""
        frames = arguments.video_length
        arguments = checked_arguments(arguments, frames)
        request = self.checked(MovingRequest, arguments, asked_size(arguments), frames)
        return checked_recipe(request, self.start(request), self.scheduler)

    def encode(self, session: Session[MovingRequest]) -> PictureConditions:
        """The prompts of a request."""
        return self.encode_prompts(session)

    def steps(self, session: Session[MovingRequest], conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents after every step: first those of the first frames, then those of all frames."""
        return video_steps(self, session, conditions)

"""Text2Video-Zero: videos from an image model, without training."""

from __future__ import annotations

from dataclasses import dataclass

from filmstrip.generation.arguments import Prompted, Sampled, Sized, call
from filmstrip.generation.session import Session
from filmstrip.models.stable_diffusion.arguments import PictureConditions
from filmstrip.models.text2video_zero.recipe import (
    Moving,
    MovingPictures,
    MovingRequest,
    TextToVideoPipelineOutput,
    Video,
)
from filmstrip.records import record


@record("text2video-zero arguments")
@dataclass(frozen=True, eq=False)
class VideoArguments(Moving, Sampled, Sized, Video, Prompted):
    """What text to video takes."""


class TextToVideoZeroPipeline(MovingPictures):
    """Makes a video from a text with an image model: its first frame, moved, and denoised again (arXiv:2303.13439)."""

    __call__ = call(VideoArguments, TextToVideoPipelineOutput, "Generate videos.")

    def encode(self, session: Session[MovingRequest]) -> PictureConditions:
        """The prompts of a request."""
        return self.encode_prompts(session)

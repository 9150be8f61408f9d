"""CogVideoX: text to video."""

from __future__ import annotations

from dataclasses import dataclass

from filmstrip.checks import known
from filmstrip.generation.arguments import Lasting, Prompted, Sampled, Sized, call
from filmstrip.generation.output import VideoOutput
from filmstrip.models.cogvideox.common import (
    AnySession,
    CogVideoXArguments,
    CogVideoXRequest,
    CogVideoXVideoPipeline,
    Conditions,
)
from filmstrip.records import record


@record("cogvideox text arguments")
@dataclass(frozen=True, eq=False)
class TextArguments(CogVideoXArguments, Sampled, Lasting, Sized, Prompted):
    """What text to video takes."""


class CogVideoXPipeline(CogVideoXVideoPipeline):
    """Makes a video from a text (arXiv:2408.06072)."""

    __call__ = call(TextArguments, VideoOutput, "Generate videos.")

    def check(self, arguments: TextArguments) -> CogVideoXRequest[TextArguments]:
        return self.checked(arguments, known(arguments.num_frames))

    def encode(self, session: AnySession) -> Conditions:
        """The prompts of a request."""
        return Conditions.of(self.encode_prompts(session))

"""ModelScope: text to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from filmstrip.checks import known
from filmstrip.generation.arguments import Lasting, Prompted, Sampled, Sized, call
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.models.modelscope.common import ModelScopeArguments, ModelScopeBase
from filmstrip.models.stable_diffusion.arguments import AnySession, PictureConditions, PictureRequest, asked_size
from filmstrip.records import record


@record("modelscope text arguments")
@dataclass(frozen=True, eq=False)
class TextArguments(ModelScopeArguments, Sampled, Lasting, Sized, Prompted):
    """What text to video takes."""


class TextToVideoSDPipeline(ModelScopeBase):
    """Makes a video from a text (arXiv:2308.06571)."""

    family_defaults: ClassVar[dict[str, Any]] = {
        **ModelScopeBase.family_defaults,
        "num_frames": 16,
        "guidance_scale": 9.0,
    }

    __call__ = call(TextArguments, VideoOutput, "Generate videos.")

    def check(self, arguments: TextArguments) -> PictureRequest[TextArguments]:
        arguments.check_old_callback()
        kind = PictureRequest[TextArguments]
        return self.checked(kind, arguments, asked_size(arguments), known(arguments.num_frames))

    def encode(self, session: AnySession) -> PictureConditions:
        """The prompts of a request."""
        return self.encode_prompts(session)

    def steps(self, session: AnySession, conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(session.request)
        yield from self.told(session, conditions, self.initial_noise(session, run), run)

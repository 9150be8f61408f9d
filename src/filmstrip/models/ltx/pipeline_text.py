"""LTX-Video: text to video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from filmstrip.generation.arguments import call
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.session import Session
from filmstrip.models.ltx.common import LTXArguments, LTXRequest, LTXVideoPipeline, prompt_guidance


class LTXPipeline(LTXVideoPipeline):
    """Makes a video from a text (arXiv:2501.00103)."""

    __call__ = call(LTXArguments, VideoOutput, "Generate videos.")

    def check(self, arguments: LTXArguments) -> LTXRequest[LTXArguments]:
        request = self.checked(LTXRequest[LTXArguments], arguments)
        if arguments.latents is not None:
            self.check_latents(arguments.latents, request)
        return request

    def encode(self, session: Session[LTXRequest[LTXArguments]]) -> Prompts:
        """The prompts of a request."""
        return self.encode_prompts(session)

    def steps(self, session: Session[LTXRequest[LTXArguments]], prompts: Prompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        transformer, request = self.transformer, session.request
        rotary = self.rotary_table(request)

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            times = latents.new_full((len(latents),), timestep)
            tokens = latents.to(transformer.dtype)
            return transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        latents = self.initial_latents(session)
        guidance = prompt_guidance(transformer, prompts, request.arguments)
        yield from session.denoise(predict, latents, self.start(request), guidance)

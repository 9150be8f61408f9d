"""What all pipelines do alike: resolve, encode, denoise, decode."""

from filmstrip.generation.events import Event
from filmstrip.generation.pipeline import Pipeline
from filmstrip.generation.running import VideoOutput, run

DiffusionPipeline = Pipeline
"""The name that users of Diffusers know."""

__all__ = ["DiffusionPipeline", "Event", "Pipeline", "VideoOutput", "run"]

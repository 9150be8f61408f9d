"""What all pipelines do alike: resolve, encode, denoise, decode."""

from filmstrip.generation.pipeline import Pipeline

DiffusionPipeline = Pipeline
"""The name that users of Diffusers know."""

__all__ = ["DiffusionPipeline", "Pipeline"]

"""Pipelines as a whole: components, their loading, saving and placement, and the calls that all of them have."""

from filmstrip.assembly.pipeline import Pipeline

DiffusionPipeline = Pipeline
"""The name that users of Diffusers know."""

__all__ = ["DiffusionPipeline", "Pipeline"]

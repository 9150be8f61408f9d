"""Pipelines as a whole: components, their loading, saving and placement, and the calls that all of them have."""

from typing import TYPE_CHECKING, Any

from filmstrip.assembly.pipeline import Pipeline

if TYPE_CHECKING:

    class DiffusionPipeline(Pipeline):
        """The pipeline that a checkpoint names: which arguments it takes is known when it is loaded."""

        def __call__(self, *positional: Any, **named: Any) -> Any: ...

else:
    DiffusionPipeline = Pipeline
    """The name that users of Diffusers know."""

__all__ = ["DiffusionPipeline", "Pipeline"]

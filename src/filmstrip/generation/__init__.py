"""A request and its run: what all pipelines do alike."""

from filmstrip.generation.events import Event
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.session import run

__all__ = ["Event", "VideoOutput", "run"]

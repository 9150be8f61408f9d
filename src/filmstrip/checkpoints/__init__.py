"""Checkpoint folders and hub repositories: find them, stream them into modules, save them."""

from filmstrip.checkpoints.component import load_component, save_component
from filmstrip.checkpoints.dtypes import requested_dtype
from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.hub import revision_of
from filmstrip.checkpoints.index import ModelIndex, read_model_index, write_model_index
from filmstrip.checkpoints.inspect import CheckpointSummary, ComponentSummary, inspect_checkpoint
from filmstrip.checkpoints.locate import find_checkpoint

__all__ = [
    "CheckpointError",
    "CheckpointSummary",
    "ComponentSummary",
    "ModelIndex",
    "find_checkpoint",
    "inspect_checkpoint",
    "load_component",
    "read_model_index",
    "requested_dtype",
    "revision_of",
    "save_component",
    "write_model_index",
]

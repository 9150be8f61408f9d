"""Checkpoint folders and hub repositories: find them, stream them into modules, save them."""

from filmstrip.checkpoints.errors import CheckpointError
from filmstrip.checkpoints.index import ModelIndex, read_model_index, write_model_index
from filmstrip.checkpoints.locate import find_checkpoint
from filmstrip.checkpoints.model import Model

__all__ = ["CheckpointError", "Model", "ModelIndex", "find_checkpoint", "read_model_index", "write_model_index"]

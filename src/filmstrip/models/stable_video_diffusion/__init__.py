"""Stable Video Diffusion (arXiv:2311.15127): videos that begin with a picture."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

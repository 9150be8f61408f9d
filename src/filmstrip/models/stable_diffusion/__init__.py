"""Stable Diffusion (arXiv:2112.10752): the networks and pipelines that several families of video models stand on."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

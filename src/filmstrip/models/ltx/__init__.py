"""LTX-Video (arXiv:2501.00103): text, image and video to video, and its latent upsampler."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

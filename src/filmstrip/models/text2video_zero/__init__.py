"""Text2Video-Zero (arXiv:2303.13439): videos from image models, without training."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

"""I2VGen-XL (arXiv:2311.04145): videos from a picture and a text."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

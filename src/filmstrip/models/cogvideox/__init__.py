"""CogVideoX (arXiv:2408.06072), 1.0 and 1.5: text, image and video to video, and control by a video."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

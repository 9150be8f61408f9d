"""ModelScope (arXiv:2308.06571) and zeroscope, which is trained on from it: videos from text, and from other videos."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

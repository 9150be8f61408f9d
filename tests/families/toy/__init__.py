"""A family as whoever adds one writes it: small, and whole."""

from filmstrip.families import lazily

__getattr__ = lazily(__name__)

"""Filmstrip turns a text, an image or a video into a video.

The public names resolve on first use, so that importing the package loads nothing, not even their table. Type checkers
find them in `__init__.pyi`.
"""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("filmstrip")
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'filmstrip' has no attribute {name!r}")
    from filmstrip.families import load
    from filmstrip.registry import PUBLIC

    if name == "__all__":
        return sorted(PUBLIC)
    if name not in PUBLIC:
        raise AttributeError(f"module 'filmstrip' has no attribute {name!r}")
    value = globals()[name] = load(PUBLIC[name], name)
    return value


def __dir__() -> list[str]:
    from filmstrip.registry import PUBLIC

    return sorted({*globals(), *PUBLIC, "__all__", "__version__"})

"""Classes that remember the arguments they were built with, and their JSON files."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from filmstrip.versions import version_of

logger = logging.getLogger(__name__)

ConfiguredType = TypeVar("ConfiguredType", bound="Configured")


class Config(Mapping[str, Any]):
    """The constructor arguments of one object, defaults included: `config["x"]`, `config.x`, `dict(**config)`.

    It is frozen, and equal to any mapping of the same names and values; a list equals a tuple of the same items,
    since JSON has lists only. What an object was built from but has no argument for is kept out of sight, in
    `foreign`, so that changing the class and changing it back loses nothing.
    """

    __slots__ = ("_defaulted", "_foreign", "_values")

    def __init__(
        self, values: Mapping[str, Any], defaulted: Iterable[str] = (), foreign: Mapping[str, Any] | None = None
    ) -> None:
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_defaulted", frozenset(defaulted))
        object.__setattr__(self, "_foreign", dict(foreign or {}))

    def chosen(self) -> dict[str, Any]:
        """The arguments that were given, without those that the class filled with its own defaults."""
        return {name: value for name, value in self._values.items() if name not in self._defaulted}

    def foreign(self) -> dict[str, Any]:
        """Entries of the config that the object was built from which are arguments of another class."""
        return dict(self._foreign)

    def copy(self) -> dict[str, Any]:
        """A plain dictionary of the arguments, to be changed at will."""
        return dict(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        # Unpickling asks for special names before the slots are filled.
        if not name.startswith("_") and name in self._values:
            return self._values[name]
        raise AttributeError(f"this config has no entry {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a config is frozen: build a new object with from_config(config, {name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a config is frozen: {name!r} can't be removed")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(_with_lists(self) == _with_lists(other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Config, (self._values, self._defaulted, self._foreign)

    def __repr__(self) -> str:
        return f"Config({self._values!r})"


class Configured:
    """Base of the classes whose constructor arguments are recorded as `config` and stored as JSON."""

    config_name: ClassVar[str] = "config.json"
    fixed_settings: ClassVar[Mapping[str, Any]] = {}
    """Entries of config files that this class knows with one value only; null stands for it too."""
    config: Config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _recording(vars(cls)["__init__"]))  # noqa: B010  (mypy forbids the assignment)

    @classmethod
    def from_config(
        cls: type[ConfiguredType], config: Mapping[str, Any] | Configured, **overrides: Any
    ) -> ConfiguredType:
        """Build an object from recorded arguments, those of another class included.

        Names that this class does not know have no effect here, but are kept for the class that does, and what the
        other class had only by default is this class's to decide.

        Args:
            overrides: arguments that replace those of `config`; an unknown name is an error.

        Raises:
            ValueError: an argument that makes no sense, or a setting of the config that this class does not have.
        """
        if isinstance(config, Configured):
            config = config.config
        if not isinstance(config, Mapping):
            raise TypeError(
                f"{cls.__name__}.from_config takes a config or a dictionary, got {type(config).__name__};"
                f" read a file with {cls.__name__}.load_config(folder)."
            )
        accepted = _argument_names(cls)
        given = cls._understood(config, accepted)
        for name in overrides:
            if name not in accepted:
                similar = difflib.get_close_matches(name, accepted, n=1)
                hint = f"did you mean {similar[0]!r}?" if similar else f"it takes {', '.join(sorted(accepted))}."
                raise TypeError(f"{cls.__name__} has no argument {name!r}; {hint}")
        ignored = sorted(name for name in given if name not in accepted and not name.startswith("_"))
        for name in ignored:
            known = cls.fixed_settings.get(name)
            if name in cls.fixed_settings and given[name] not in (None, known):
                raise ValueError(f"{cls.__name__} can't be built with {name}={given[name]!r}; it knows {known!r} only.")
        if ignored:
            logger.debug("%s ignores these entries of the config: %s", cls.__name__, ", ".join(ignored))
        built = cls(**{name: value for name, value in given.items() if name in accepted} | overrides)
        built._set_config({}, foreign={name: given[name] for name in ignored})
        return built

    @classmethod
    def _understood(cls, config: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
        """What a config, perhaps of another class, says of an object of this one, which accepts these arguments."""
        return config.foreign() | config.chosen() if isinstance(config, Config) else dict(config)

    def register_to_config(self, **values: Any) -> None:
        """Record further values in the config, or other ones; parts that are built already stay as they are."""
        self._set_config(values, self.config.foreign())

    def _set_config(self, values: Mapping[str, Any], foreign: Mapping[str, Any]) -> None:
        defaulted = self.config.keys() - self.config.chosen().keys() - values.keys()
        self.__dict__["config"] = Config({**self.config, **values}, defaulted, foreign)

    @classmethod
    def load_config(cls, folder: str | Path) -> dict[str, Any]:
        """The content of the class's JSON file in `folder` (or of `folder` itself, if it is a file)."""
        path = Path(folder)
        if not path.is_file():
            path = path / cls.config_name
        if not path.is_file():
            raise FileNotFoundError(f"there is no {cls.config_name} in {folder}, which {cls.__name__} needs.")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); download or save it again.") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path} must hold one JSON object, got {type(config).__name__}.")
        return config

    def save_config(self, folder: str | Path) -> None:
        """Write the arguments to the class's JSON file in `folder`, which is made if it does not exist."""
        content = {
            "_class_name": type(self).__name__,
            "_filmstrip_version": version_of("filmstrip"),
            **self.config.foreign(),
            **self.config,
        }
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / self.config_name).write_text(text, encoding="utf-8")


def _recording(init: Any) -> Any:
    """The constructor `init`, which also records its arguments if it is the one of the object's own class.

    Arguments that it names in `recorded_if_given` are left out where they are left at their defaults.
    """
    signature = inspect.signature(init)
    own_name = next(iter(signature.parameters))
    optional: frozenset[str] = getattr(init, "recorded_if_given", frozenset())
    open_ended = [name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.VAR_KEYWORD]

    @functools.wraps(init)
    def recording_init(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is recording_init:
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError:
                init(self, *args, **kwargs)  # the call itself raises the clearer error
                return
            given = set(bound.arguments)
            bound.apply_defaults()
            values = dict(bound.arguments)
            left = {name for name in optional if values[name] == signature.parameters[name].default}
            for name in (own_name, *left):
                del values[name]
            for name in open_ended:
                values.update(values.pop(name))
            # JSON has no arrays: what has a list form is recorded as that.
            values = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
            # Past any __setattr__: a module's own comes to life only with its constructor.
            self.__dict__["config"] = Config(values, defaulted=values.keys() - given)
        init(self, *args, **kwargs)

    return recording_init


def _argument_names(cls: type) -> set[str]:
    parameters = list(inspect.signature(cls).parameters.values())
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _with_lists(value: Any) -> Any:
    """`value` with tuples as lists and mappings as dictionaries, all the way down."""
    if isinstance(value, Mapping):
        return {name: _with_lists(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    return value

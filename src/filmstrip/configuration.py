"""Classes that remember the arguments they were built with, and their JSON files."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from filmstrip.hints import fits, numbers_in, signature_hints, words_of
from filmstrip.json_files import cut, read_object, shown
from filmstrip.versions import version_of

logger = logging.getLogger(__name__)

# No size, count or length in a published config comes near it; a network or a table of so many could not be held.
_LARGEST_ENTRY = 1_000_000
# What a constructor raises whose arguments have the right types and do not fit together.
_MISFITS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)

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
        accepted = cls._accepted(overrides)
        given = cls._understood(config, accepted)
        ignored = sorted(name for name in given if name not in accepted and not name.startswith("_"))
        for name in ignored:
            known = cls.fixed_settings.get(name)
            if name in cls.fixed_settings and given[name] not in (None, known):
                raise ValueError(f"{cls.__name__} can't be built with {name}={given[name]!r}; it knows {known!r} only.")
        if ignored:
            logger.debug("%s ignores these entries of the config: %s", cls.__name__, ", ".join(ignored))
        values = {name: value for name, value in given.items() if name in accepted} | overrides
        built = cls(**cls._checked(values))
        built._set_config({}, foreign={name: given[name] for name in ignored})
        return built

    @classmethod
    def from_folder(cls: type[ConfiguredType], folder: str | Path, **overrides: Any) -> ConfiguredType:
        """`from_config` of the class's JSON file in `folder`; what is wrong with it is said with the file's name.

        Raises:
            ValueError: nothing can be built as the file says.
            FileNotFoundError: there is no such file.
        """
        cls._accepted(overrides)
        config = cls.load_config(folder)
        try:
            return cls.from_config(config, **overrides)
        except ValueError as error:
            reason = cut(" ".join(str(error).split()), 600).removesuffix(".")
        except _MISFITS as error:
            reason = _misfit(error, config)
        reason += _said_by(reason, config)
        raise ValueError(f"{Path(folder) / cls.config_name} describes no {cls.__name__} that can be built: {reason}.")

    @classmethod
    def check_entry(cls, name: str, value: Any, default: Any) -> None:
        """See that an entry of a config, which has the right type, can have this value.

        Raises:
            ValueError: it can't.
        """
        if any(abs(number) > _LARGEST_ENTRY for number in numbers_in(value) if isinstance(number, int)):
            raise ValueError(f"{name} can be {_LARGEST_ENTRY:,} at most, got {shown(value)}.")

    @classmethod
    def _accepted(cls, overrides: Mapping[str, Any]) -> set[str]:
        """The names of the arguments, all of the overrides' among them."""
        accepted = _argument_names(cls)
        for name in overrides:
            if name not in accepted:
                similar = difflib.get_close_matches(name, accepted, n=1)
                hint = f"did you mean {similar[0]!r}?" if similar else f"it takes {', '.join(sorted(accepted))}."
                raise TypeError(f"{cls.__name__} has no argument {name!r}; {hint}")
        return accepted

    @classmethod
    def _checked(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the types that the constructor says: 2.0, as JSON may have it, for a whole number, too."""
        checked = {}
        hints = signature_hints(cls)
        for name, value in values.items():
            hint, default = hints[name]
            plain = value.tolist() if hasattr(value, "tolist") else value
            if type(plain) is float and plain.is_integer() and fits(int(plain), hint) and not fits(plain, hint):
                plain = value = int(plain)
            if not (fits(plain, hint) or fits(value, hint) or (type(plain) is type(default) and plain == default)):
                raise ValueError(f"{name} must be {words_of(hint)}, got {shown(value)}.")
            cls.check_entry(name, plain, default)
            checked[name] = value
        return checked

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
        return read_object(path)

    def save_config(self, folder: str | Path) -> None:
        """Write the arguments to the class's JSON file in `folder`, which is made if it does not exist."""
        text = self.config_text()
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / self.config_name).write_text(text, encoding="utf-8")

    def config_text(self) -> str:
        """The content of the class's JSON file."""
        content = {
            "_class_name": type(self).__name__,
            "_filmstrip_version": version_of("filmstrip"),
            **self.config.foreign(),
            **self.config,
        }
        return json.dumps(content, indent=2, sort_keys=True, default=_plain) + "\n"


def _plain(value: object) -> object:
    """What JSON has for an entry: a configuration within one is an object."""
    if isinstance(value, Config):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is nothing that a config.json can hold")


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


def _misfit(error: Exception, config: Mapping[str, Any]) -> str:
    """What does not fit together in a config whose entries have the right types, as far as an error tells."""
    if isinstance(error, RuntimeError) and str(error):
        return f"its entries do not fit together ({cut(' '.join(str(error).split()), 200)})"
    lengths = [f"{name} {len(value)}" for name, value in sorted(config.items()) if isinstance(value, list)]
    if isinstance(error, LookupError) and len(lengths) > 1:
        return f"its lists do not fit together in their lengths ({', '.join(lengths)})"
    return "its entries do not fit together"


def _said_by(reason: str, config: Mapping[str, Any]) -> str:
    """The entries that hold the numbers of a reason which names no entry, such as a library's."""
    if any(re.search(rf"\b{re.escape(name)}\b", reason) for name in config):
        return ""
    numbers = {int(one) for one in re.findall(r"\b\d{1,9}\b", reason)}
    held = {name: value if isinstance(value, list) else [value] for name, value in config.items()}
    names = [name for name, values in held.items() if any(type(one) is int and one in numbers for one in values)]
    return f" (from {', '.join(names)})" if names else ""


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

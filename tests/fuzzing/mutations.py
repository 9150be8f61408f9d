"""Files as accidents, other programs and strangers leave them, and what may come of reading one."""

from __future__ import annotations

import copy
import os
import re
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# `make fuzz` asks for more than a run of the suite.
TIMES = float(os.environ.get("FILMSTRIP_FUZZ", "1"))
PATIENCE_SECONDS = 40  # on a machine that others use, too
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2.5,
    8.0,
    10**7,
    10**18,
    -(10**18),
    10**400,
    1e308,
    float("inf"),
    float("-inf"),
    "",
    "3",
    "é\n\x00",
    "../..",
    "x" * 5000,
    [],
    {},
    [None],
    [[1]],
    ["a", 1],
    [10**9] * 3,
    {"a": {"b": []}},
]
# What Python or a library says to a programmer.
_UNCLEAR = re.compile(
    r"NoneType|<class|object is not|object has no|has no attribute|unhashable|not subscriptable|not iterable|"
    r"not callable|positional argument|keyword argument|unsupported operand|must be str|must be real|invalid literal|"
    r"cannot be interpreted|codec can't|Traceback|expected str|instance of|dictionary update|list index|math domain|"
    r"not supported between|division by zero|modulo by zero|KeyError|Errno"
)

started: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that notes programs that are started."""
    if event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"):
        started.append(f"{event}: {arguments!r:.200}")


sys.addaudithook(watch)


def tries(number: int) -> Any:
    """Hypothesis' settings for so many inputs in a run of the suite."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    # Faults are counted and told together at the end, so there is nothing to shrink.
    return settings(max_examples=max(1, round(number * TIMES)), suppress_health_check=checks, phases=[Phase.generate])


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies in a value of JSON."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


@st.composite
def changed(draw: Callable[[Any], Any], original: Any) -> Any:
    """A value of JSON with one or two things in it replaced, removed, added or called otherwise."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(list(places(value))[1:] or [(None,)]))
        if last is None:
            return copy.deepcopy(draw(st.sampled_from(ODD)))
        holder = value
        for key in way:
            holder = holder[key]
        how = draw(st.sampled_from(["replace"] * 6 + ["remove", "add", "rename", "all"]))
        if how == "all":
            value = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif how == "remove":
            del holder[last]
        elif how == "replace" or isinstance(holder, list):
            holder[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
        else:
            name = draw(st.sampled_from(["", "..", "a/b", "é", "x" * 300, "vae", "__metadata__", "_class_name"]))
            holder[name] = holder.pop(last) if how == "rename" else copy.deepcopy(draw(st.sampled_from(ODD)))
        if not isinstance(value, (dict, list)) or not value:
            break
    return value


@st.composite
def damaged(draw: Callable[[Any], Any], whole: bytes) -> bytes:
    """Bytes of which some were lost, changed, doubled or added."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "flip", "insert", "drop", "double", "deep"]))
        if how == "cut":
            del content[place:]
        elif how == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=20))
        elif how == "drop":
            del content[place : place + draw(st.integers(1, 30))]
        elif how == "double":
            content[place:place] = content[place : place + 40]
        else:
            content[place:place] = draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.sampled_from([70, 5000]))
    return bytes(content)


def unclear(sentence: str, names: tuple[str, ...]) -> str | None:
    """What is wrong with a sentence that is to name a file or an option; None if nothing is."""
    if not sentence.strip() or "\n" in sentence:
        return "not one line"
    if len(sentence) > 1500:
        return "too long"
    if not any(name in sentence for name in names):
        return "names nothing"
    return f"says {found[0]!r}" if (found := _UNCLEAR.search(sentence)) else None


@dataclass
class Figures:
    """How many inputs were tried, and what was wrong with some: kind of fault to what was said, each once."""

    tried: int = 0
    refused: int = 0
    faults: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, kind: str, said: str, about: object = "") -> None:
        self.faults[kind].setdefault(re.sub(r"\d+", "0", said)[:80], f"{said:.300} <- {about!r:.200}")

    def settle(self) -> None:
        """Fail with one line for each different fault."""
        lines = [f"{kind}: {one}" for kind, faults in self.faults.items() for one in faults.values()]
        assert not lines, "\n".join(["", *lines])


@contextmanager
def judged(figures: Figures, *names: str, about: object = "") -> Iterator[None]:
    """See that what is inside ends well, or in one clear sentence that holds one of the names; faults are counted."""
    begin = time.monotonic()
    figures.tried += 1
    started.clear()  # of what other tests of this process have started
    try:
        yield
    except AssertionError as error:
        figures.add("accepted wrongly", str(error).splitlines()[0], about)
    except (ValueError, OSError, ImportError) as error:
        figures.refused += 1
        if wrong := unclear(str(error), names):
            figures.add("unclear", f"{wrong}: {type(error).__name__}: {error}", about)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        figures.add("traceback", f"{type(error).__name__}: {error} at {place.filename}:{place.lineno}", about)
    if time.monotonic() - begin > PATIENCE_SECONDS:
        figures.add("hang", f"{time.monotonic() - begin:.0f} s", about)
    if started:
        figures.add("code executed", started.pop(), about)

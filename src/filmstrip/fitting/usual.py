"""The request that a plan is made for where nobody has given a text or pictures yet."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from PIL import Image

from filmstrip.generation.arguments import Arguments, arguments_named, completed, facts_of
from filmstrip.generation.request import Request

_SIDE = 512  # of a picture, where nothing says how large it is


def usual_request(pipeline: Any, arguments: Mapping[str, Any]) -> Request[Any]:
    """The request of a call with these arguments, and with something in place of a text or of pictures that it needs.

    Raises:
        ValueError: as the call itself would, were all that given.
    """
    kind: type[Arguments] = type(pipeline).arguments
    takes = completed(arguments_named(kind, arguments, type(pipeline).__name__), pipeline.defaults)
    facts = facts_of(kind)
    lacking = {
        name: fact.role
        for name, fact in facts.items()
        if getattr(takes, name) is None and (not fact.instead or getattr(takes, fact.instead, None) is None)
    }
    sides = [getattr(takes, name) or _SIDE for name, fact in facts.items() if fact.role == "side"]
    height, width = sides or (_SIDE, _SIDE)
    lengths = [given for name, fact in facts.items() if fact.role == "length" and (given := getattr(takes, name))]
    picture = Image.new("RGB", (width, height))
    stand_ins: dict[Any, Any] = {"text": "a", "picture": picture, "clip": [picture] * (lengths or [1])[0]}
    text = {name: stand_ins[role] for name, role in lacking.items() if role == "text"}
    usual = {name: stand_ins[role] for name, role in lacking.items() if role in ("picture", "clip")}
    subsets = [names for count in range(len(usual) + 1) for names in combinations(usual, count)]
    errors: dict[str, list[ValueError]] = {}
    for names in subsets:
        try:
            return pipeline.request(**{**arguments, **text, **{name: usual[name] for name in names}})
        except ValueError as error:
            errors.setdefault(str(error), []).append(error)
    raise max(reversed(errors.values()), key=len)[0]  # what is wrong whatever else is given

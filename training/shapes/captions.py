"""Captions of the clips, in many wordings, and the vocabulary that they need."""

from __future__ import annotations

import random
import string

from training.shapes.clips import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Combination

_SIDEWAYS = (
    *("moving {0}", "moving to the {0}", "moving towards the {0}", "going {0}", "going to the {0}", "sliding {0}"),
    *("sliding to the {0}", "moves {0}", "moves to the {0}", "drifting {0}", "traveling {0}", "heading {0}"),
)
_UPRIGHT = ("moving {0}", "moving {0}ward", "moving {0}wards", "going {0}", "sliding {0}", "moves {0}", "drifting {0}")
_OF_MOTION = {
    "left": (*(text.format("left") for text in _SIDEWAYS), "moving from right to left"),
    "right": (*(text.format("right") for text in _SIDEWAYS), "moving from left to right"),
    "up": (*(text.format("up") for text in _UPRIGHT), "rising", "rises", "floating up"),
    "down": (*(text.format("down") for text in _UPRIGHT), "falling", "falls", "sinking"),
    "growing": (
        "growing",
        "growing bigger",
        "growing larger",
        "getting bigger",
        "getting larger",
        "expanding",
        "grows",
    ),
    "shrinking": ("shrinking", "getting smaller", "becoming smaller", "growing smaller", "contracting", "shrinks"),
    "spinning": ("spinning", "spinning around", "rotating", "turning", "turning around", "spinning in place", "spins"),
    "bouncing": ("bouncing", "bouncing up and down", "hopping", "jumping up and down", "jumping", "bounces"),
}
_PLAIN = {motion: wordings[0] for motion, wordings in _OF_MOTION.items()}
_FINITE = {wording.split()[0] for wordings in _OF_MOTION.values() for wording in wordings if "ing" not in wording}
_ON = ("on", "on", "over", "against", "in front of")
_BESIDE_THE_POINT = ("small", "big", "large", "little", "bright", "simple", "slowly", "quickly", "smoothly", "steadily")
_OPENINGS = ("", "", "", "", "", "a video of ", "an animation of ", "a clip of ")


def plain_caption(combination: Combination) -> str:
    """The usual wording: `a red star spinning on a navy background`."""
    shape, colour, motion, background = combination
    return f"{_article(colour)} {colour} {shape} {_PLAIN[motion]} on {_article(background)} {background} background"


def caption(combination: Combination, rng: random.Random) -> str:
    """One of the many ways to say what the clip shows."""
    shape, colour, motion, background = combination
    action = _PLAIN[motion] if rng.random() < 0.55 else rng.choice(_OF_MOTION[motion])
    background = "grey" if background == "gray" and rng.random() < 0.3 else background
    article = rng.choice((_article(colour) + " ", _article(colour) + " ", "the ", ""))
    ground = rng.choice((_article(background) + " ", _article(background) + " ", "the ", ""))
    if rng.random() < 0.08:
        colour = f"{_beside_the_point(rng)} {colour}"
    if rng.random() < 0.05:
        action = f"{_beside_the_point(rng)} {action}"
    subject = f"{article}{colour} {shape}" if rng.random() < 0.93 else f"{article or 'a '}{shape} that is {colour}"
    does = (
        action if action.split()[0].endswith("s") else rng.choice((action, action, f"is {action}", f"that is {action}"))
    )
    on = rng.choice(_ON)
    order = rng.random()
    if order < 0.72:
        text = f"{subject} {does} {on} {ground}{background} background"
    elif order < 0.80:
        text = f"{on} {ground}{background} background, {subject} {does}"
    elif order < 0.87:
        text = f"{subject} {does}, {rng.choice(('the ', ''))}background is {background}"
    elif order < 0.90:
        text = f"{subject} {does}, {background} background"
    elif order < 0.93:
        text = f"{subject} {does} with {ground}{background} background"
    elif order < 0.96:
        text = f"{subject} {on} {ground}{background} background, {action}"
    else:
        text = f"{subject} {does} {on} {background}"
    if order < 0.72 and not does.startswith("is"):
        text = rng.choice(_OPENINGS) + text
    text = text[0].upper() + text[1:] if rng.random() < 0.3 else text
    return text + "." if rng.random() < 0.25 else text


def vocabulary() -> list[str]:
    """Every word that captions use, sorted."""
    words = {*SHAPES, *COLOURS, *BACKGROUNDS, *MOTIONS, *_BESIDE_THE_POINT, *_ON, "grey"}
    words.update(" ".join(wording for wordings in _OF_MOTION.values() for wording in wordings).split())
    words.update(" ".join((*_ON, *_OPENINGS, "with the background is that")).split())
    return sorted({"an", *(word for word in words if " " not in word)})


def _beside_the_point(rng: random.Random) -> str:
    """A word that says nothing of what captions are about, now and then one that exists nowhere."""
    if rng.random() < 0.7:
        return rng.choice(_BESIDE_THE_POINT)
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 8)))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"

"""When frames are shown: the rate of a clip, and the frames that a constant rate takes.

A clip has one rate if no frame is away from its place in it by half a frame. Any other is brought to one, by the time
that frames usually last (the median), and each of its frames is then the one that is shown in the middle of its time:
some are repeated, some left out, and the motion keeps its time. Where that would need far more frames than there are
(a long pause), the average rate is taken, at which there are as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from filmstrip.media.levels import Say

if TYPE_CHECKING:
    from numpy.typing import NDArray

Frame = TypeVar("Frame")

LEAST_FPS, MOST_FPS = 0.001, 1000.0
_MOST_OF_ONE = 240.0  # frames a second that a file may claim where no times prove it: files count in 1000 ticks
_MOST_REPEATS = 4  # frames made of each that there is, on average; more is memory without motion
_DENOMINATOR = 1001  # 30000/1001 and its kin


def sane_rate(value: str | float | Fraction | None) -> Fraction | None:
    """A rate that a file claims, if it can be one."""
    try:
        rate = Fraction(value or 0)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return rate if LEAST_FPS <= rate <= MOST_FPS else None


def rate_of(times: Sequence[float], claims: Iterable[Fraction | None], tick: float) -> Fraction | None:
    """Frames a second of frames that begin at these times; None where nothing says it.

    Args:
        times: in seconds, in any order.
        claims: rates that the file gives, of which the first is taken that the times agree with.
        tick: the smallest step of the times.
    """
    known = [claim for claim in claims if claim is not None]
    begins = np.unique(np.asarray(times, np.float64))
    if len(begins) < 2:
        return next((claim for claim in known if claim <= _MOST_OF_ONE), None)
    for claim in known:
        if _is_even(begins, 1 / float(claim)):
            return claim
    average = float(begins[-1] - begins[0]) / (len(begins) - 1)
    if _is_even(begins, average):
        return _nearest(average, known, tick / (len(begins) - 1))
    usual = float(np.median(np.diff(begins)))
    if float(begins[-1] - begins[0]) + usual > _MOST_REPEATS * len(begins) * usual:
        return _nearest(average, (), 0)
    return _nearest(usual, known, tick)


def _is_even(begins: NDArray[np.float64], seconds: float) -> bool:
    places = begins - begins[0] - np.arange(len(begins)) * seconds
    return bool((np.abs(places) < seconds / 2).all())


def _nearest(seconds: float, claims: Iterable[Fraction], tick: float) -> Fraction:
    """The rate of frames that last so long, give or take a tick: a claim, a whole number, or what it is."""
    longest, shortest = seconds + tick, max(seconds - tick, 1 / MOST_FPS)
    for rate in (*claims, Fraction(max(1, round(1 / seconds)))):
        if shortest <= 1 / float(rate) <= longest:
            return rate
    exact = Fraction(min(max(1 / seconds, LEAST_FPS), MOST_FPS))
    return exact.limit_denominator(_DENOMINATOR)


def most_frames(count: int) -> int:
    """How many frames at the most are made of so many at a rate of `rate_of`, with some to spare."""
    return (_MOST_REPEATS + 1) * count


class Steady:
    """Frames at a constant rate, from frames that begin at given times."""

    def __init__(self, rate: Fraction, most: int | None = None) -> None:
        """Take frames at a rate, at the most so many."""
        self.repeated = 0
        self.left_out = 0
        self._seconds = 1 / float(rate)
        self._most = most
        self._count = 0

    def take(self, frames: Iterable[tuple[float | None, Frame]], last_seconds: float | None = None) -> Iterator[Frame]:
        """Yield what is shown in the middle of each frame's time.

        Args:
            frames: in the order in which they are shown, each with the time of its begin; what has no time, or none
                after the one before, follows that one at the rate.
            last_seconds: how long the last one is shown; None stands for one frame of the rate.
        """
        begin = shift = at = 0.0
        held: list[Frame] = []
        for time, frame in frames:
            if not held:
                begin = at = time or 0.0
            else:
                following = at + self._seconds if time is None else time + shift
                if following <= at:  # the clock of the file was set back
                    shift += at + self._seconds - following
                    following = at + self._seconds
                yield from self._shown(held[0], following - begin)
                at = following
            held = [frame]
        if held:
            last = max(last_seconds if last_seconds is not None else self._seconds, self._seconds)
            yield from self._shown(held[0], at + last - begin)

    def _shown(self, frame: Frame, end: float) -> Iterator[Frame]:
        before = self._count
        # A hair less than the middle, so that rounding decides nothing.
        while (self._count + 0.499) * self._seconds < end and self._count != self._most:
            self._count += 1
            yield frame
        shown = self._count - before
        self.repeated += max(0, shown - 1)
        self.left_out += shown == 0

    def tell_of(self, shown: str, tell: Say) -> None:
        """Say what was done to the frames of a clip, if not all of them came through once each."""
        if self.repeated or self.left_out:
            tell(
                f"The frames of {shown} do not come evenly: they are taken at {1 / self._seconds:.5g} frames a second, "
                f"so that the motion keeps its time; {self.repeated} are repeated and {self.left_out} left out."
            )

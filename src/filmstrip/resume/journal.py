"""The journal of a run: what is done of it, kept in a file, so that no accident loses it.

Finished latents are kept before they are decoded, and noisy ones at every so many steps if that is wanted. A run that
goes on from a file makes its first steps over again without computing them: each is yielded with the latents that
were kept, so that whatever counts steps counts right, and then the loop goes on with all that it had in memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from filmstrip import files
from filmstrip.generation.events import Step
from filmstrip.generation.journal import Journal
from filmstrip.generation.session import Session
from filmstrip.randomness import NoiseState
from filmstrip.resume.unfinished import LoopState, Unfinished, describe
from filmstrip.schedulers import Run
from filmstrip.schedulers.runs import memory_of, remember


class FileJournal(Journal):
    """Follows one run and keeps what is done of it.

    Args:
        path: the file, or one like it if there is something of that name; None keeps nothing, but lets an error in
            decoding carry the finished latents. Where it can't be written, a temporary folder or the user's own serves.
        every: after how many steps it is written again; None writes it once, before decoding.
        about: see `Unfinished`.
        begun: what the run goes on from.
    """

    def __init__(
        self,
        path: Path | None,
        every: int | None = None,
        about: Mapping[str, Any] | None = None,
        begun: Unfinished | None = None,
    ) -> None:
        self.path, self.every, self.about = path, every, dict(about or {})
        self.begun = begun
        self.trouble: str | None = None
        """Why nothing is kept, or not where it was to be."""
        self._mine = set() if begun is None or path is None else {path}
        self._state: Unfinished | None = None
        self._session: Session[Any]
        self._loops: list[LoopState] = []
        self._earlier = [] if begun is None else list(begun.loops)
        self._count = 0
        self._changes: dict[str, Tensor] = {}
        self._guidance_scale: float | None = None
        if begun is not None:
            self.latents, self.cut_off, self.coding = begun.latents, begun.cut_off, begun.coding

    @property
    def is_kept(self) -> bool:
        """Whether there is a file to go on from."""
        return self.path in self._mine and self.path is not None and self.path.is_file()

    def remove(self) -> None:
        """Remove what this run has kept: the video is whole."""
        for path in self._mine:
            files.remove(path)

    def begin(self, session: Session[Any]) -> None:
        """A run begins; see `Journal`."""
        self._session = session
        if self.path is not None:
            self._state = self._described()
            if self.every is not None:
                self._state.check()
        elif self.latents is not None:
            self._state = self.begun

    def loop(self, run: Run, latents: Tensor, timesteps: list[float]) -> Generator[Step, None, tuple[int, Tensor]]:
        """Yield the steps of a beginning loop that are kept, after which its solver and its noise are as they were."""
        self._changes = {}
        if not self._earlier:
            if self.every is not None:
                self._loops.append(LoopState(0, latents, {}, self._noise()))
            return 0, latents
        kept = self._earlier.pop(0)
        self._loops.append(kept)
        self._changes, self._guidance_scale = dict(kept.changes), kept.guidance_scale
        self._count += kept.steps
        there = kept.latents.to(latents.device)
        for index in range(kept.steps):
            yield Step(index, len(timesteps), timesteps[index], there, there, is_repeated=True)
        remember(run, kept.memory, latents.device)
        kept.noise.restore(self._session.generator)
        return kept.steps, there

    def repeat(self, step: Step) -> None:
        """Put what a callback had replaced by the end of a loop's kept steps into one of these steps."""
        kept = self._loops[-1]
        step.tensors.update({name: tensor.to(step.latents.device) for name, tensor in kept.changes.items()})
        step.guidance_scale = kept.guidance_scale

    def change(self, changed: dict[str, Tensor], guidance_scale: float) -> None:
        """A callback has replaced these tensors, and left this guidance scale."""
        self._changes.update(changed)
        self._guidance_scale = guidance_scale

    def step(self, done: int, total: int, latents: Tensor, run: Run) -> None:
        """So many steps of the present loop are made, and this is what it goes on from."""
        self._count += 1
        if self.every is None or self._state is None:
            return
        is_due = self._count % self.every == 0
        if is_due or done == total:
            self._loops[-1] = LoopState(
                done, latents, memory_of(run), self._noise(), dict(self._changes), self._guidance_scale
            )
        if is_due:
            self._state = replace(self._state, loops=list(self._loops))
            self._write()

    def finish(self, latents: Tensor) -> None:
        """All steps are made; what decoding needs is kept."""
        state = self._described() if self._state is None else self._state
        cut_off = self._session.report.cut_off
        self._state = replace(state, latents=latents, noise=self._noise(), cut_off=cut_off, loops=[])
        if self._session.request.output_type != "latent":
            self._write()

    def fail(self, error: BaseException) -> None:
        """Say in an error how to go on, and let it carry what is finished."""
        how = ""
        if self.is_kept:
            how = f"What is done is kept in {self.path}: `filmstrip decode {self.path}` goes on from there."
        elif self._state is not None and self._state.is_denoised:
            error.unfinished = self._state  # type: ignore[attr-defined]
            how = "The latents are in `error.unfinished`; `pipeline.finish(error.unfinished)` decodes them."
        if how and hasattr(error, "add_note"):  # since Python 3.11
            error.add_note(how)

    def _described(self) -> Unfinished:
        state = describe(self._session.recipe, self._session.request)
        return replace(state, every=self.every, about=self.about)

    def _noise(self) -> NoiseState:
        return NoiseState.of(self._session.generator, self._session.recipe._execution_device)  # type: ignore[attr-defined]

    def _write(self) -> None:
        if self.path is None or self._state is None:
            return
        first: OSError | None = None
        for path in (self.path, *(folder / self.path.name for folder in _elsewhere())):
            try:
                written = self._state.save(path, may_replace=path in self._mine)
            except OSError as error:
                first = first or error
                continue
            if first is not None:
                self._say_trouble(f"{self.path} could not be written ({first}); what is done is kept in {written}.")
            self.path = written
            self._mine.add(written)
            return
        self._say_trouble(f"{self.path} could not be written ({first}), nor elsewhere: an accident loses the run.")

    def _say_trouble(self, sentence: str) -> None:
        if sentence != self.trouble:
            self.trouble = sentence
            self._session.say(sentence)


def _elsewhere() -> list[Path]:
    """Folders for what does not fit where it belongs."""
    found = [Path(tempfile.gettempdir())]
    with contextlib.suppress(RuntimeError):  # nobody's home
        found.append(Path.home())
    return found

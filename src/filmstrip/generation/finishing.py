"""Keeping what runs have done, and finishing a run that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from filmstrip.generation.keeping import (
    Keeper,
    Unfinished,
    changed_versions,
    dtype_of,
    new_path,
    quantized,
    read_unfinished,
    settings_of,
)
from filmstrip.generation.request import Request, check_callback, check_whole_number
from filmstrip.generation.running import result
from filmstrip.media.formats import partial_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keeping:
    """Where the runs of a pipeline are kept, and after how many steps."""

    folder: Path
    every: int | None = None

    def __post_init__(self) -> None:
        check_keeping(self.folder, self.every)

    def keeper(self, name: str) -> Keeper:
        """The keeper of a run that begins now."""
        return Keeper(new_path(self.folder, name), self.every)


class Finishing:
    """The part of a pipeline that keeps its runs and finishes them."""

    keeping: Keeping | None = None

    def keep_unfinished(self, folder: str | Path | None, every: int | None = None) -> None:
        """Keep what each call has done so far in a file, which is removed when the call has returned.

        Finished latents are kept before they are decoded. After a crash, `finish` or `filmstrip decode` goes on from
        the file, with the same result.

        Args:
            folder: where the files lie; it is made if there is none. None ends the keeping.
            every: keep the noisy latents, too, after every so many denoising steps.

        Raises:
            ValueError: the folder can't be written, or `every` makes no sense.
        """
        self.keeping = None if folder is None else Keeping(Path(folder), every)

    def finish(
        self,
        unfinished: str | Path | Unfinished,
        *,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Finish a call that was cut off, and return what it would have returned.

        Args:
            unfinished: the file that was kept of it, which is then removed, or the `unfinished` of an error.
            callback_on_step_end, callback_on_step_end_tensor_inputs: for the denoising steps that are left.

        Raises:
            ValueError: the file is none of a call of this pipeline, or is damaged.
        """
        found = unfinished if isinstance(unfinished, Unfinished) else read_unfinished(unfinished)
        path = None if isinstance(unfinished, Unfinished) else Path(unfinished)
        callbacks = {
            "callback_on_step_end": callback_on_step_end,
            "callback_on_step_end_tensor_inputs": callback_on_step_end_tensor_inputs,
        }
        if callback_on_step_end is not None:
            known = getattr(self, "_callback_tensor_inputs", ())
            check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs, known)
        return result(cast("Any", self), request_of(self, found, path, **callbacks))


def request_of(pipeline: Any, unfinished: Unfinished, path: Path | None, **options: Any) -> Request:
    """The request that finishes a run on a pipeline.

    Args:
        path: where the run is kept further; None keeps it nowhere.
        options: those that can't be written down.

    Raises:
        ValueError: the pipeline is of another class than the run's, or set otherwise.
    """
    name = type(pipeline).__name__
    if unfinished.pipeline != name:
        raise ValueError(f"the unfinished video is one of {unfinished.pipeline}, and this is a {name}; load that one.")
    scheduler = settings_of(pipeline.components.get("scheduler"))
    if not unfinished.is_denoised and unfinished.scheduler != scheduler:
        raise ValueError(
            f"the unfinished video was begun with the scheduler {unfinished.scheduler}, and this is {scheduler}; "
            "set pipeline.scheduler to the same."
        )
    for sentence in changes_of(pipeline, unfinished):
        logger.warning(sentence)
    request = unfinished.request
    keeper = Keeper(path, unfinished.every, unfinished.about, begun=unfinished)
    return replace(
        request.with_options(**{name: one for name, one in options.items() if name in request.options}),
        generator=unfinished.noise.generators(),
        keeper=keeper,
    )


def changes_of(pipeline: Any, unfinished: Unfinished) -> list[str]:
    """What is not as it was when a run began and can make another video of it, in sentences."""
    sentences = changed_versions(unfinished.versions)
    here = quantized(pipeline)
    for name in pipeline.networks.keys() if not unfinished.is_denoised else {"vae"} & pipeline.networks.keys():
        before, now = (kinds.get(name, "not quantised") for kinds in (unfinished.quantized, here))
        if before != now:
            sentences.append(f"It was begun with the {name} {before}, here it is {now}: frames may differ.")
    for name, dtype in unfinished.dtypes.items():
        network = pipeline.networks.get(name)
        is_used = network is not None and (name == "vae" or not unfinished.is_denoised)
        if is_used and (present := dtype_of(network)) != dtype:
            before, now = (str(one).removeprefix("torch.") for one in (dtype, present))
            sentences.append(f"It was begun with the {name} in {before}, here it is in {now}: frames may differ.")
    return sentences


def check_keeping(folder: Path, every: int | None) -> None:
    """See that files can be kept in a folder, which is made if there is none.

    Raises:
        ValueError: they can't be, or `every` is no number of steps.
    """
    if every is not None:
        check_whole_number("every", every)
    probe = partial_path(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"unfinished videos can't be kept in {folder}: {error.strerror or error}; give another folder."
        ) from error

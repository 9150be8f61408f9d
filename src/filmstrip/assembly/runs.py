"""Keeping what runs have done, and finishing a run that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from filmstrip.assembly.progress import BarSettings, with_bar
from filmstrip.checks import check_whole_number
from filmstrip.files import partial_path
from filmstrip.generation.arguments import Arguments, Watched
from filmstrip.generation.events import Event
from filmstrip.generation.request import Request, check_callback
from filmstrip.generation.session import run
from filmstrip.resume.journal import FileJournal
from filmstrip.resume.unfinished import (
    Unfinished,
    changed_versions,
    dtype_of,
    new_path,
    quantized,
    read_unfinished,
    settings_of,
)
from filmstrip.schedulers import Scheduler
from filmstrip.schedulers.flows import check_solver

logger = logging.getLogger(__name__)

_ENCODERS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")
"""What names of components begin with that an outline of a pipeline comes without."""


@dataclass(frozen=True)
class Keeping:
    """Where the runs of a pipeline are kept, and after how many steps."""

    folder: Path
    every: int | None = None

    def __post_init__(self) -> None:
        check_keeping(self.folder, self.every)

    def journal(self, name: str) -> FileJournal:
        """The journal of a run that begins now."""
        return FileJournal(new_path(self.folder, name), self.every)


class Finishing:
    """The part of a pipeline that carries out requests, keeps what is done of them and finishes them."""

    keeping: Keeping | None = None
    bar: BarSettings
    follows_flow: ClassVar[bool | None] = None
    """Whether its network was trained on a flow, or else by diffusion; None leaves the scheduler unchecked."""

    def requested(self, arguments: Arguments) -> Request[Any]:
        """The request that a call's arguments make, completed and checked."""
        pipeline = cast("Any", self)
        check_there(pipeline, [name for name in pipeline.component_names() if not name.startswith(_ENCODERS)])
        scheduler = pipeline.components.get("scheduler")
        if self.follows_flow is not None and isinstance(scheduler, Scheduler):
            check_solver(scheduler, flow=self.follows_flow)
        request: Request[Any] = pipeline.check(pipeline.completed(arguments))
        return request

    def set_progress_bar_config(self, **settings: Any) -> None:
        """Set how calls draw their progress on stderr; what is left out takes its usual value again.

        Args:
            settings: `disable` (None: draw on a terminal only), `leave` and `desc`, as tqdm has them.
        """
        self.bar = BarSettings(**settings)

    def stream(self, **arguments: Any) -> Iterator[Event]:
        """Yield what happens while a call with these arguments is carried out; to cancel it, stop reading.

        The last event carries what the call would return. Arguments are checked at once, before the first event.
        """
        return self.run(cast("Any", self).request(**arguments))

    def run(self, request: Request[Any], journal: FileJournal | None = None) -> Iterator[Event]:
        """Yield what happens while a request is carried out; what is kept of it is removed once all is read."""
        if journal is None or journal.latents is None:
            check_encoders(self, request)
        if journal is None:
            name = type(self).__name__
            journal = FileJournal(None) if self.keeping is None else self.keeping.journal(name)
        yield from run(cast("Any", self), request, journal)
        journal.remove()

    def returned(self, request: Request[Any], journal: FileJournal | None = None) -> Any:
        """Carry out a request and return what the call returns: an output, or a tuple of its fields."""
        output: Any = None
        events = self.run(request, journal)
        for event in events if self.bar.disable is True else with_bar(events, self.bar):
            if event.stage == "done":
                output = event.output
        return output if request.arguments.return_dict else output.to_tuple()

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
        request = request_of(self, found)
        arguments = request.arguments
        if callback_on_step_end is not None and isinstance(arguments, Watched):
            arguments = replace(
                arguments,
                callback_on_step_end=callback_on_step_end,
                callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            )
            check_callback(arguments, getattr(self, "_callback_tensor_inputs", ()))
            request = replace(request, arguments=arguments)
        return self.returned(request, FileJournal(path, found.every, found.about, begun=found))


def check_there(pipeline: Any, names: Sequence[str], otherwise: str = "") -> None:
    """See that a pipeline has components of these names, but for those that it can do without.

    Args:
        otherwise: what else can be done about it, as the end of the sentence.

    Raises:
        ValueError: one is None.
    """
    for name in names:
        if pipeline.components.get(name) is None and name not in pipeline._optional_components:
            owner = type(pipeline).__name__
            raise ValueError(f"{owner} has no {name} (None); give it one, as {name}=..., when it is made{otherwise}.")


def check_encoders(pipeline: Any, request: Request[Any]) -> None:
    """See that a pipeline has what encodes the texts and pictures of a request.

    Raises:
        ValueError: it has not; says which embeddings would do.
    """
    names = [name for name in pipeline.component_names() if name.startswith(_ENCODERS)]
    of_texts = [name for name in names if name.startswith(("text", "token"))]
    check_there(pipeline, [name for name in names if name not in of_texts])
    embeds = "prompt_embeds" if request.prompts is not None else "negative_prompt_embeds"
    if request.prompts is not None or request.negative_prompts is not None:
        check_there(pipeline, of_texts, f", or give {embeds}" if hasattr(request.arguments, embeds) else "")


def request_of(pipeline: Any, unfinished: Unfinished) -> Request[Any]:
    """The request that finishes a run on a pipeline.

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
    return replace(unfinished.request, generator=unfinished.noise.generators())


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

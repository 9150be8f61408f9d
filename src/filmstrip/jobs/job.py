"""What is to be made, as it was said, in plain data that can be written down and sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where a picture or a clip lies, and what of it counts."""

    place: str
    """A path or an address."""
    num_frames: int | None = None
    """How many of a clip's frames are taken; None takes all."""
    is_edges: bool = False
    """Whether the edges of the pictures are what counts."""
    pixels_sha256: str | None = None
    """Of the pixels that it must still have, as `Input` has it; None takes them as they are."""
    fit: str = "crop"
    """How its pictures get the video's proportions: "crop", "pad" or "stretch"."""
    made: str | None = None
    """The video that was made with it, for messages."""


@dataclass(frozen=True)
class Job:
    """What is to be made; nothing of it is checked yet."""

    model: str
    """A folder, a hub repository or a built-in model."""
    seed: int
    num_videos: int = 1
    """Videos of this seed and those after it."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """Of the pipeline's call; `num_frames` stands for whatever the call names its length."""
    said: Mapping[str, str] = field(default_factory=dict)
    """Argument to what whoever asked calls it, such as "--steps"; the others are called by their names."""
    assignments: tuple[str, ...] = ()
    """NAME=VALUE, which go over all arguments but those that are in `said`."""
    inputs: Mapping[str, Source] = field(default_factory=dict)
    """Argument to the picture or clip that it takes."""
    components: Mapping[str, str] = field(default_factory=dict)
    """Component of the pipeline to the checkpoint that it comes from, where that is not the model's."""
    seconds: float | None = None
    """The length, instead of a number of frames."""
    fps: float | None = None
    pipeline: str | None = None
    """Name of the pipeline class; None chooses it by what is given."""
    scheduler: str | None = None
    """Another scheduler than the checkpoint's, by its short name or by its class."""
    device: str | None = None
    dtype: str | None = None
    memory: str | None = None
    """What may be used, such as "8GB"; None sets no limit."""
    quantize: str | None = None
    """How the weights of the networks that denoise are stored; None keeps their type."""
    local: Sequence[str] = field(default_factory=list)
    """Checkpoints that come from this machine alone: from a folder, or whole from the hub's cache."""
    then: tuple[Job, ...] = ()
    """The passes that follow, each of which changes the video of the one before: to enlarge it, to refine it."""
    where_taken: Mapping[str, object] = field(default_factory=dict)
    """Arguments for whatever pipeline takes them; the others do without."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Repository of the hub to the branch, tag or commit of it that counts; others are taken as they are now."""

    def access(self, name: str) -> dict[str, Any]:
        """How a checkpoint of this job is asked for: arguments of whatever loads or describes it."""
        return {"revision": self.revisions.get(name), "local_files_only": name in self.local}


@dataclass(frozen=True)
class Disclosure:
    """What a video says of how it was made, to everybody who has it."""

    anything: bool = True
    prompt: bool = True
    paths: bool = False
    """Whether files and folders are told with the whole path, and not by name."""


EVERYTHING = Disclosure()

"""`filmstrip generate`, `rerun` and `decode`: from words to a job, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filmstrip.cli.facts import content_of_job, content_of_videos, facts_of_job, facts_of_videos
from filmstrip.cli.printing import print_facts, print_json
from filmstrip.cli.progress import Notes, make_progress
from filmstrip.cli.words import changed_by_words, job_of_words
from filmstrip.files import unused
from filmstrip.jobs import Job, MadeVideo, ResolvedJob, finish_video, job_of, make, read_kept, resolve_job
from filmstrip.jobs.components import not_here
from filmstrip.jobs.job import EVERYTHING, Disclosure
from filmstrip.jobs.notes import library_notes
from filmstrip.jobs.targets import check_targets, choose_targets
from filmstrip.media.places import public_address
from filmstrip.registry import BUILTIN_MODELS

DEFAULT_MODEL = next(iter(BUILTIN_MODELS))


@dataclass(frozen=True)
class OutputOptions:
    """Where the videos go and what is said about them."""

    path: Path | None
    is_dry: bool = False
    is_json: bool = False
    is_quiet: bool = False
    has_sheet: bool = False
    overwrite: bool = False
    every: int | None = None
    """After how many steps what is done is kept."""
    told: Disclosure = EVERYTHING

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> OutputOptions:
        """Those of a command line, as `app.generate` names them."""
        if options["checkpoint_every"] is not None and options["checkpoint_every"] < 1:
            raise ValueError(f"--checkpoint-every must be at least 1, got {options['checkpoint_every']}.")
        return cls(
            options["output"],
            options["dry_run"],
            options["json"],
            options["quiet"],
            options["contact_sheet"],
            options["overwrite"],
            options["checkpoint_every"],
            Disclosure(not options["no_metadata"], not options["no_prompt"], options["paths"]),
        )


def make_by_words(options: Mapping[str, Any]) -> None:
    """Make videos by the options of the command line, as `app.generate` names them."""
    output = OutputOptions.of(options)
    notes = Notes(is_quiet=output.is_quiet)
    model = options["model"]
    if model is None:
        model = DEFAULT_MODEL
        hint = "name another with --model: a folder, or a hub repository such as org/name"
        notes(f"using the built-in model {model!r}; {hint}.")
    job = job_of_words(options, model)
    with library_notes(notes):
        _carry_out(resolve_job(job), output, notes)


def make_again(made: Path, options: Mapping[str, Any]) -> None:
    """Make a video again from what is written down in it, as the options of the command line change it."""
    from filmstrip.media import read_metadata
    from filmstrip.resume.unfinished import changed_versions

    output = OutputOptions.of(options)
    record = read_metadata(made)
    job = changed_by_words(job_of(record, made), options)
    notes = Notes(is_quiet=output.is_quiet)
    for sentence in changed_versions(record.get("versions") or {}):
        notes(sentence)
    with library_notes(notes):
        if output.is_dry and (needed := _needed(job)):
            _tell_needed(needed, output)
            return
        if options["fetch"]:
            job = replace(job, local=[], then=tuple(replace(one, local=[]) for one in job.then))
        else:
            _check_here(job, made)
        again = unused(made.with_name(f"{made.stem}-rerun{made.suffix}"))
        try:
            resolved = resolve_job(job)
        except ValueError as error:  # most of the job's values stand in the file, so it is named
            if str(made) in str(error):
                raise
            raise ValueError(f"{made} can't be made again: {error}") from error
        _carry_out(resolved, replace(output, path=output.path or again), notes)


def finish_kept(file: Path, device: str | None, output: OutputOptions, *, fetch: bool) -> None:
    """Finish the video of a file that was kept, and remove the file."""
    notes = Notes(is_quiet=output.is_quiet)
    with library_notes(notes):
        kept = read_kept(file, device, is_local=not fetch)
        if not fetch:
            _check_here(kept.job, file)
        target = output.path or kept.target
        if target.is_file() and not output.overwrite:
            target = unused(target)
        _tell_other_names(output.path, [target], notes)
        with make_progress(notes, is_quiet=output.is_quiet) as progress:
            made = finish_video(kept, target, progress.show, overwrite=output.overwrite)
    _tell_made([made], kept.notes, output)


def _carry_out(resolved: ResolvedJob, output: OutputOptions, notes: Notes) -> None:
    sources = [one.source for one in resolved.inputs.values()]
    named = resolved.prompt, resolved.job.seed, resolved.job.num_videos, sources
    targets = choose_targets(output.path, *named, overwrite=output.overwrite)
    _tell_other_names(output.path, targets, notes)
    if output.is_dry:
        check_targets(targets, resolved.fps, sources, is_dry=True)
        if output.is_json:
            print_json(content_of_job(resolved, targets))
        else:
            print_facts(facts_of_job(resolved, targets))
        return
    with make_progress(notes, is_quiet=output.is_quiet) as progress:
        made = make(
            resolved,
            targets,
            progress.show,
            has_sheet=output.has_sheet,
            every=output.every,
            overwrite=output.overwrite,
            told=output.told,
        )
    _tell_made(made, resolved.notes, output)


def _needed(job: Job) -> list[str]:
    return [public_address(name) for name in not_here(job)]


def _check_here(job: Job, file: Path) -> None:
    """See that nothing has to be fetched that only a file asks for."""
    if needed := _needed(job):
        raise ValueError(
            f"{file} was made with what is not on this machine ({', '.join(needed)}); if you trust where it comes from,"
            " --fetch gets that, from the hub with your token."
        )


def _tell_needed(names: Sequence[str], output: OutputOptions) -> None:
    if output.is_json:
        print_json({"would_fetch": names})
    else:
        print_facts([("would fetch" if number == 0 else "", name) for number, name in enumerate(names)])


def _tell_other_names(asked: Path | None, targets: Sequence[Path], notes: Notes) -> None:
    if asked is not None and len(targets) == 1 and targets != [asked]:
        notes(f"{asked} exists, so this video is {targets[0].name}; --overwrite replaces it.")


def _tell_made(made: Sequence[MadeVideo], notes: Sequence[str], output: OutputOptions) -> None:
    if output.is_json:
        print_json(content_of_videos(made, notes))
    elif output.is_quiet:
        for video in made:
            print(video.path)
    else:
        print_facts(facts_of_videos(made, notes))

"""The commands and their options, which typer reads from parameters: hence so many of them.

What the commands do is imported when they are called, so that --help stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filmstrip.cli.commands import Command, Commands, also_takes

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes: print the files' names only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be made; load no weights.")]
Sheet = Annotated[bool, typer.Option("--contact-sheet", help="Also write a PNG of the frames beside the video.")]
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", help=".mp4, .mov, .webm, .mkv (lossless), .gif, .webp; no suffix: a PNG folder."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that -o names, if there is one.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other argument of the pipeline's call; may be repeated."),
]
Fetch = Annotated[
    bool, typer.Option("--fetch", help="Get what FILE names from the hub and other addresses, if you trust it.")
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="What may be used, such as 8GB or free; how is planned.")
]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Of the weights: bfloat16, float16, float32.")]
Quantize = Annotated[str | None, typer.Option("--quantize", metavar="KIND", help="Smaller weights: int8, fp8 or int4.")]
Size = Annotated[str | None, typer.Option("--size", metavar="WxH", help="In pixels, such as 704x512.")]
NumFrames = Annotated[int | None, typer.Option("--num-frames", help="Exactly so many frames.")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Of a MODEL of the hub: a branch, a tag or a commit; it is recorded.")
]
Device = Annotated[str | None, typer.Option("--device", help="Such as gpu or cpu; the best one there is if left out.")]


def run_command(arguments: list[str]) -> int:
    """Run a command line and return its exit status."""
    import contextlib
    import os
    import warnings

    from filmstrip.hushing import hushed

    # Libraries explain themselves to programmers; what a user has to know is an error or a note of ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Its bars and ours would lock each other out, whatever a user has set for other programs.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Threads that spin while they wait take the core from those they wait for, where others work, too: read by OpenMP
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    is_debugged = "--debug" in arguments
    if not is_debugged:
        warnings.simplefilter("ignore")
    with contextlib.nullcontext() if is_debugged else hushed():
        return int(typer.main.get_command(app).main(arguments, "filmstrip", standalone_mode=False))


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Turn a text, an image or a video into a video."""
    if version:
        from filmstrip import __version__

        print(f"filmstrip {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command(cls=Command)
def generate(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="What the video shows.", show_default=False)] = None,
    output: OutputFile = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A folder, a hub name, or a built-in model; the first of these if left out."
        ),
    ] = None,
    revision: Revision = None,
    image: Annotated[str | None, typer.Option("--image", help="A picture that the video begins with.")] = None,
    video: Annotated[
        str | None, typer.Option("--video", help="A clip to change, or to go on from if it is shorter.")
    ] = None,
    control_video: Annotated[
        str | None, typer.Option("--control-video", help="A clip of poses or edges to follow frame by frame.")
    ] = None,
    edges: Annotated[bool, typer.Option("--edges", help="Follow the edges of --control-video, found here.")] = False,
    fit: Annotated[
        str | None, typer.Option("--fit", metavar="HOW", help="Pictures of other proportions: crop, pad or stretch.")
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(
            "--component", metavar="NAME=MODEL", help="Another checkpoint's part: controlnet=org/name[@REVISION]."
        ),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option("--negative-prompt", help="What it does not show.")] = None,
    num_frames: NumFrames = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="The length, instead of --num-frames.")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames a second, of the motion and the file.")] = None,
    size: Size = None,
    steps: Annotated[int | None, typer.Option("--steps", help="More steps, more detail, more time.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="How strongly to follow the prompt.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Decides the video; drawn and told if left out.")] = None,
    num_videos: Annotated[int, typer.Option("--num-videos", help="Videos, of this seed and those after it.")] = 1,
    device: Device = None,
    memory: Memory = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Another scheduler: euler, ddim, dpm++, unipc, ...")
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option("--then", metavar="MODEL", help="Another pass, which changes the video made so far."),
    ] = None,
    then_size: Annotated[
        list[str] | None, typer.Option("--then-size", metavar="WxH", help="Of that pass, which enlarges the video.")
    ] = None,
    then_strength: Annotated[
        list[float] | None, typer.Option("--then-strength", help="How much that pass changes, from 0 to 1.")
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option("--checkpoint-every", metavar="STEPS", help="Keep what is done after every so many steps, too."),
    ] = None,
    set_: Assignments = None,
    dry_run: DryRun = False,
    json: Json = False,
    contact_sheet: Sheet = False,
    overwrite: Overwrite = False,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Write nothing of how it was made into the video, or beside it.")
    ] = False,
    no_prompt: Annotated[bool, typer.Option("--no-prompt", help="Write all but the prompts.")] = False,
    paths: Annotated[
        bool, typer.Option("--paths", help="Write where models and pictures lie here, and not their names alone.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a video from a PROMPT, with --image, --video or --control-video if you like."""
    from filmstrip.cli.videos import make_by_words

    make_by_words(context.params)


@app.command(cls=Command)
@also_takes(generate)
def rerun(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A video that this command made.", show_default=False)],
    prompt: Annotated[str | None, typer.Option("--prompt", help="What the video shows.")] = None,
    fetch: Fetch = False,
    **others: object,
) -> None:
    """Make a video again from what is written down in FILE: the same, or with what the other options change."""
    from filmstrip.cli.videos import make_again

    make_again(file, context.params)


@app.command(cls=Command)
def decode(
    file: Annotated[Path, typer.Argument(help="A .latents.safetensors file of a cut-off run.", show_default=False)],
    output: OutputFile = None,
    device: Device = None,
    fetch: Fetch = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Finish a video whose making was cut off, from what FILE has kept of it."""
    from filmstrip.cli.videos import OutputOptions, finish_kept

    output_options = OutputOptions(output, is_json=json, is_quiet=quiet, overwrite=overwrite)
    finish_kept(file, device, output_options, fetch=fetch)


@app.command(cls=Command)
def show(
    file: Annotated[
        Path, typer.Argument(help="A video, or a .latents.safetensors file of a cut-off run.", show_default=False)
    ],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what FILE was made with, and how far it is if its making was cut off."""
    from filmstrip.cli.showing import show_file

    show_file(file, is_json=json)


@app.command(cls=Command)
def inspect(
    model: Annotated[str, typer.Argument(help="A folder, a hub name, or a built-in model.", show_default=False)],
    revision: Revision = None,
    memory: Memory = None,
    device: Annotated[
        str | None, typer.Option("--device", help="That --memory is of; an accelerator if left out.")
    ] = None,
    size: Size = None,
    num_frames: NumFrames = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a MODEL is made of and what it can make, and with --memory how it fits; reads no weights."""
    from filmstrip.cli.inspection import PlanWords, show_model

    words = PlanWords(memory, device, size, num_frames, dtype, quantize)
    show_model(model, revision, words, is_json=json, is_quiet=quiet)


@app.command(cls=Command)
def models(json: Json = False, debug: Debug = False) -> None:
    """List the families of models, what they do, and checkpoints to try."""
    from filmstrip.cli.surroundings import show_families

    show_families(is_json=json)


@app.command(cls=Command)
def env(json: Json = False, debug: Debug = False) -> None:
    """Say what this machine offers: versions, devices, memory, folders."""
    from filmstrip.cli.surroundings import show_surroundings

    show_surroundings(is_json=json)

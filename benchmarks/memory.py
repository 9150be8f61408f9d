"""Memory of every family: predicted and measured, by stage and by way of working; loading under a limit; offloading.

    python benchmarks/memory.py [stages] [load] [host] [grains] [--gigabytes 4] [--pairs 5]

Networks are random and of a medium size. Peaks are those of torch's allocator, beside weights that lie at home:
"predicted" is what a plan is made of, found without running; "measured" is the profiler's. The reference decodes the
same latents with the same weights. Offloading copies from the CPU to the CPU, so its time is what moving costs in
operations and copies, not over a bus.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _pairs import HEADER, compare, peak_bytes
from load import resident, write_checkpoint

SEED = 0
LIMIT_GIGABYTES = 6


def pipelines() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """A pipeline of each family with its text encoder, and a short call of it."""
    import transformers

    import filmstrip
    from filmstrip.fitting.rehearsal import FullTokenizer

    text = transformers.T5Config(vocab_size=128, d_model=512, d_kv=64, d_ff=1024, num_layers=4, num_heads=8)
    encoder = partial(transformers.T5EncoderModel, text)
    call = {"num_inference_steps": 2, "output_type": "pt"}
    embeds = {name: torch.zeros(1, 64, 512) for name in ("prompt_embeds", "negative_prompt_embeds")}
    masks = {name: torch.ones(1, 64) for name in ("prompt_attention_mask", "negative_prompt_attention_mask")}
    torch.manual_seed(SEED)
    yield (
        "LTX-Video",
        filmstrip.LTXPipeline(
            filmstrip.FlowMatchEulerDiscreteScheduler(),
            filmstrip.AutoencoderKLLTXVideo(
                block_out_channels=(64, 128, 128, 256), decoder_block_out_channels=(64, 128, 128, 256)
            ),
            encoder(),
            None,
            filmstrip.LTXVideoTransformer3DModel(
                num_attention_heads=16,
                attention_head_dim=64,
                cross_attention_dim=1024,
                num_layers=8,
                caption_channels=512,
            ),
        ),
        {**call, **embeds, **masks, "height": 320, "width": 512, "num_frames": 25},
    )
    yield (
        "CogVideoX",
        filmstrip.CogVideoXPipeline(
            None,
            encoder(),
            filmstrip.AutoencoderKLCogVideoX(
                block_out_channels=(64, 64, 128, 128), layers_per_block=2, sample_height=192, sample_width=256
            ),
            filmstrip.CogVideoXTransformer3DModel(
                num_attention_heads=16,
                text_embed_dim=512,
                num_layers=8,
                sample_height=24,
                sample_width=32,
                max_text_seq_length=64,
            ),
            filmstrip.CogVideoXDDIMScheduler(),
        ),
        {**call, **embeds, "height": 192, "width": 256, "num_frames": 17, "max_sequence_length": 64},
    )
    unet = filmstrip.UNet2DConditionModel(
        sample_size=32, block_out_channels=(128, 256, 512, 512), cross_attention_dim=512, attention_head_dim=8
    )
    vae = filmstrip.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(64, 128, 256, 256),
        layers_per_block=2,
        sample_size=128,
    )
    encoder_of_texts = encoder()
    tokenizer = FullTokenizer(encoder_of_texts)  # there are no vocabularies here
    parts = {"vae": vae, "text_encoder": encoder_of_texts, "tokenizer": tokenizer, "unet": unet}
    square = {"height": 256, "width": 256}
    yield (
        "Stable Diffusion",
        filmstrip.StableDiffusionPipeline(**parts, scheduler=filmstrip.DDIMScheduler(clip_sample=False)),
        {**call, **embeds, **square, "num_images_per_prompt": 2},
    )
    yield (
        "Text2Video-Zero",
        filmstrip.TextToVideoZeroPipeline(**parts, scheduler=filmstrip.DDIMScheduler(clip_sample=False)),
        {**call, "prompt": "a", **square, "num_inference_steps": 4, "video_length": 4, "t0": 1, "t1": 2},
    )


# ---- peaks of stages -------------------------------------------------------------------------------------------------


def stages() -> None:
    """Print what every stage needs, in the ways that there are."""
    from filmstrip.fitting.rehearsal import Rehearsal
    from filmstrip.memory.coding import Way, decoding_ways

    for name, pipeline, call in pipelines():
        pipeline.to(torch.bfloat16)
        pipeline.set_progress_bar_config(disable=True)
        print(f"\n{name:54}{'predicted':>11}{'measured':>11}{'ratio':>7}{'reference':>11}")
        rehearsal = Rehearsal(pipeline, request_of(pipeline, call), "cpu")
        arguments = request_of(pipeline, call).arguments
        for said, options in (("batched", {}), ("in turn", {"sequential_guidance": True})):
            predicted = rehearsal.denoise(replace(arguments, **options)).activations("denoise")
            row(f"denoise, guidance {said}", predicted, measured(pipeline, {**call, **options}, "denoise"))
        rehearsal.denoise()
        latents = latents_of(pipeline, call)
        size = request_of(pipeline, call).size
        theirs = reference_peaks(pipeline.vae, latents)
        for way in (Way("as it is set"), *decoding_ways(pipeline.vae)):
            if way.tile is not None and way.tile[0] >= size.height and way.tile[1] >= size.width:
                continue
            predicted = rehearsal.decode(way).activations("decode")
            pipeline.vae.coding, before = way.coding or pipeline.vae.coding, pipeline.vae.coding
            real = measured(pipeline, call, "decode")
            pipeline.vae.coding = before
            key = "tiled" if way.tile else "whole" if way.name == "whole" else ""
            row(f"decode, {way.name}", predicted, real, theirs.pop(key, None))
        offloaded(pipeline, call)


def row(said: str, predicted: float, real: float, reference: float | None = None) -> None:
    theirs = "" if reference is None else f"{reference / 1e6:8.1f} MB"
    print(f"  {said:52}{predicted / 1e6:8.1f} MB{real / 1e6:8.1f} MB{predicted / real:7.3f}{theirs:>11}", flush=True)


def request_of(pipeline: Any, call: dict[str, Any]) -> Any:
    return pipeline.request(**call, generator=torch.Generator().manual_seed(SEED))


class Marked:
    """A recipe whose stages leave marks in the profile."""

    def __init__(self, recipe: Any) -> None:
        self._recipe = recipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    def steps(self, *given: Any) -> Iterator[Any]:
        with torch.profiler.record_function("stage denoise"):
            pass
        yield from self._recipe.steps(*given)

    def decode(self, *given: Any) -> Iterator[Any]:
        with torch.profiler.record_function("stage decode"):
            pass
        yield from self._recipe.decode(*given)


def measured(pipeline: Any, call: dict[str, Any], wanted: str) -> int:
    """The most bytes that a stage held at a time."""
    from filmstrip.generation import run

    events = run(Marked(pipeline), request_of(pipeline, call), collect=False)
    with torch.profiler.profile(profile_memory=True) as profile:
        for event in events:
            del event
    alive = most = 0
    stage = "encode"
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name().startswith("stage "):
            stage = event.name().removeprefix("stage ")
        elif event.name() == "[memory]":
            alive += event.nbytes()
        most = max(most, alive if stage == wanted else 0)
    return most


def latents_of(pipeline: Any, call: dict[str, Any]) -> torch.Tensor:
    """Latents as the autoencoder takes them."""
    request = request_of(pipeline, call)
    ratio, channels = pipeline.vae.spatial_compression_ratio, pipeline.vae.config.latent_channels
    frames = request.size.latent_size[0]
    sides = request.size.height // ratio, request.size.width // ratio
    is_video = hasattr(pipeline.vae, "temporal_compression_ratio")
    shape = (1, channels, frames, *sides) if is_video else (request.num_videos * frames, channels, *sides)
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).bfloat16()


@torch.no_grad()
def reference_peaks(vae: Any, latents: torch.Tensor) -> dict[str, float]:
    """What the reference needs for the same latents, whole and in its tiles of our first tile's size."""
    import diffusers

    from filmstrip.memory.coding import decoding_ways

    with tempfile.TemporaryDirectory() as folder:
        vae.save_pretrained(folder)
        theirs = getattr(diffusers, type(vae).__name__).from_pretrained(folder, torch_dtype=torch.bfloat16)
    tile = next(way for way in decoding_ways(vae) if way.tile is not None)
    peaks = {"whole": peak_bytes(lambda: theirs.decode(latents))}
    theirs.enable_tiling()
    for name, value in tile.settings.items():
        if name.startswith("tile_") and hasattr(theirs, name):
            setattr(theirs, name, value)
    peaks["tiled"] = peak_bytes(lambda: theirs.decode(latents))
    return {**peaks, "": peaks["whole"]}


def offloaded(pipeline: Any, call: dict[str, Any]) -> None:
    """Print what denoising needs with the weights at home."""
    from filmstrip.fitting.rehearsal import Rehearsal
    from filmstrip.memory.residency import Grain, place, remove

    rehearsal = Rehearsal(pipeline, request_of(pipeline, call), "cpu")
    footprint = rehearsal.denoise()
    for grain in (Grain("components"), Grain("blocks"), Grain("leaves")):
        grains = dict.fromkeys(rehearsal.networks, grain.name)
        predicted = max(
            footprint.with_weights("denoise", holder, grains, rehearsal.stays)
            for holder in footprint.holders("denoise")
        )
        place(pipeline.networks, torch.device("cpu"), grain, together=pipeline._work_together)
        row(
            f"denoise, offloaded by {grain.name}, weights there included",
            predicted,
            measured(pipeline, call, "denoise"),
        )
        for network in pipeline.networks.values():
            remove(network)


# ---- loading under a limit -------------------------------------------------------------------------------------------


def load(gigabytes: float) -> None:
    """Print what loading a sharded checkpoint takes where the process may have no more than the limit."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_checkpoint(folder, gigabytes, max_shard_size="1GB")
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        shards = len(list(folder.glob("*.safetensors")))
        print(f"\nloading {size / 1e9:.2f} GB in {shards} shards, address space limited to {LIMIT_GIGABYTES} GB")
        for side in ("ours", "reference"):
            for dtype in ("bfloat16", "float32"):
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    __file__,
                    "--child",
                    side,
                    "--folder",
                    temporary,
                    "--dtype",
                    dtype,
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                said = done.stdout.strip() or f"fails: {(done.stderr.strip().splitlines() or ['killed'])[-1][:90]}"
                print(f"  {side:10} as {dtype:9} {said}", flush=True)


def load_within_limit(side: str, folder: str, dtype: str) -> None:
    """What one child process does."""
    if side == "ours":
        from filmstrip import LTXVideoTransformer3DModel
    else:
        from diffusers import LTXVideoTransformer3DModel
    limit = LIMIT_GIGABYTES * 10**9
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before, start = resident("VmRSS"), time.process_time()
    model = LTXVideoTransformer3DModel.from_pretrained(folder, torch_dtype=getattr(torch, dtype))
    loaded = time.process_time() - start
    sum(float(parameter.detach().sum()) for parameter in model.parameters())
    grown = resident("VmHWM") - before
    sys.stdout.write(f"{loaded:.2f} s CPU, {grown / 1e9:.2f} GB resident once every byte was used\n")


# ---- what stays in memory --------------------------------------------------------------------------------------------


def host(gigabytes: float) -> None:
    """Print what a mapped network takes of the host's own memory, and what a second call reads."""
    with tempfile.TemporaryDirectory() as temporary:
        write_checkpoint(Path(temporary), gigabytes)
        command = [sys.executable, "-W", "ignore", __file__, "--child", "host", "--folder", temporary]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"\na network of {gigabytes:g} GB, mapped\n{done.stdout or done.stderr[-300:]}", end="", flush=True)


@torch.no_grad()
def call_mapped(folder: str) -> None:
    """What that child process does."""
    from filmstrip import LTXVideoTransformer3DModel

    before = resident("RssAnon")
    model = LTXVideoTransformer3DModel.from_pretrained(folder)
    size = sum(one.nbytes for one in model.parameters())
    given = torch.zeros(1, 8, 128).bfloat16(), torch.zeros(1, 4, 4096).bfloat16(), torch.tensor([500.0])
    for said in ("first", "second"):
        start, clock = resident("VmRSS"), time.perf_counter()
        model(*given, torch.ones(1, 4), num_frames=2, height=2, width=2)
        own, grown = resident("RssAnon") - before, resident("VmRSS") - start
        line = f"  {said} call: {time.perf_counter() - clock:.2f} s, {grown / 1e9:.2f} GB more resident, "
        sys.stdout.write(
            f"{line}{own / 1e6:.0f} MB that is not mapped ({1 + own / size:.2f} times the weights in all)\n"
        )


# ---- time of offloading ----------------------------------------------------------------------------------------------


@torch.no_grad()
def grains(pairs: int) -> None:
    """Print the time of a forward pass with the weights at home against one with them in place."""
    import copy

    from diffusers.hooks import apply_group_offloading

    from filmstrip.memory.residency import Grain, place, release, remove

    name, pipeline, _ = next(pipelines())
    network = pipeline.transformer.bfloat16().eval()
    print(f"\nforward pass of the transformer of {name}, {sum(p.nbytes for p in network.parameters()) / 1e6:.0f} MB")
    print(HEADER.replace("reference", " resident"))
    hidden_states, prompt = torch.randn(1, 640, 128).bfloat16(), torch.randn(1, 64, 512).bfloat16()
    given = {"timestep": torch.tensor([500.0]), "num_frames": 4, "height": 10, "width": 16}
    given["encoder_attention_mask"] = torch.ones(1, 64)

    def forward(model: Any) -> Callable[[], object]:
        return lambda: model(hidden_states, prompt, **given)

    elsewhere = copy.deepcopy(network)
    for grain in (Grain("components"), Grain("blocks"), Grain("blocks", 4), Grain("leaves")):
        place({name: elsewhere}, torch.device("cpu"), grain)

        def there_and_back() -> None:
            forward(elsewhere)()
            release(elsewhere)

        count = f" of {grain.num_blocks}" if grain.name == "blocks" else ""
        compare(f"{grain.name}{count}", there_and_back, forward(network), pairs=pairs)
        remove(elsewhere)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        import diffusers

        load_theirs = partial(diffusers.LTXVideoTransformer3DModel.from_pretrained, folder, torch_dtype=torch.bfloat16)
        theirs, theirs_offloaded = load_theirs(), load_theirs()
    place_cpu = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}
    try:
        apply_group_offloading(theirs_offloaded, **place_cpu, offload_type="block_level", num_blocks_per_group=1)
        compare("the reference's blocks of 1", forward(theirs_offloaded), forward(theirs), pairs=pairs)
    except Exception as error:
        print(f"the reference's groups do not run from CPU to CPU: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["stages", "load", "host", "grains", []], default=[])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=["ours", "reference", "host"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.child:
        given = arguments.child, arguments.folder, arguments.dtype
        call_mapped(arguments.folder) if arguments.child == "host" else load_within_limit(*given)
        return
    parts = arguments.parts or ["stages", "load", "host", "grains"]
    if "stages" in parts:
        stages()
    if "load" in parts:
        load(arguments.gigabytes)
    if "host" in parts:
        host(arguments.gigabytes)
    if "grains" in parts:
        grains(arguments.pairs)


if __name__ == "__main__":
    main()

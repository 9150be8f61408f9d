"""Memory of a real accelerator: what a plan predicts is what a run takes, and where it runs out there is a way back."""

import logging
from contextlib import contextmanager

import pytest
import torch

from filmstrip import AutoencoderKLTemporalDecoder, devices
from filmstrip.fitting.plan import DoesNotFitError, Planner
from filmstrip.fitting.usual import usual_request
from filmstrip.memory.coding import smaller_ways
from filmstrip.memory.falling_back import decoded
from tests.contract.registered import CASES
from tests.contract.runs import fresh, over, over_all, seeded, shared, video
from tests.gpu.accelerator import DEVICE, FAMILIES, FLOAT32_ERROR, error, needs_real, there

pytestmark = [pytest.mark.gpu, needs_real]

# What libraries take for themselves, such as a product's workspace of 32 MB, is no matter of a plan.
LIBRARIES = 2**26
KINDS = {type(shared(case.name).vae).__name__: case for case in reversed(CASES)}  # a case of each class of autoencoder
SIDES = {
    "AutoencoderKL": 1024,
    "AutoencoderKLCogVideoX": 720,
    "AutoencoderKLLTXVideo": 1280,
    "AutoencoderKLTemporalDecoder": 1024,
}
"""Of pictures whose decoding takes much more than libraries do."""
LARGE = {
    "cogvideox": {"height": 512, "width": 768, "num_frames": 17},
    "ltx": {"height": 512, "width": 768, "num_frames": 65},
    "modelscope": {"height": 384, "width": 384},
    "stable_diffusion": {"height": 384, "width": 384},
    "stable_video_diffusion": {"height": 256, "width": 256},
    "text2video_zero": {"height": 384, "width": 384},
}


@contextmanager
def no_more_than(nbytes):
    """As long as this lasts, this process can have so many bytes of the accelerator beside those in use."""
    backend = torch.get_device_module(DEVICE)
    if not hasattr(backend, "set_per_process_memory_fraction"):
        pytest.skip(f"the memory of {DEVICE} can't be limited")
    devices.empty_cache(DEVICE)
    total = backend.mem_get_info()[1]
    backend.set_per_process_memory_fraction((backend.memory_reserved() + nbytes) / total, 0)
    try:
        yield
    finally:
        backend.set_per_process_memory_fraction(1.0, 0)


def peak_of(work):
    """What a work gives, and the most bytes of the accelerator that it held beside those in use before."""
    devices.synchronize(DEVICE)
    devices.reset_peak_memory(DEVICE)
    before = devices.peak_memory(DEVICE)
    made = work()
    devices.synchronize(DEVICE)
    return made, devices.peak_memory(DEVICE) - before


# ---- plans -------------------------------------------------------------------------------------------------------


@over_all
def test_a_plan_changes_nothing_where_there_is_plenty(case):
    pipeline = fresh(case)
    plan = pipeline.fit("8GB", device=DEVICE, **case.call)
    assert plan.cost == 0
    made, peak = peak_of(lambda: video(case, pipeline))
    assert error(made, case) < FLOAT32_ERROR
    weights = sum(one.nbytes for network in pipeline.networks.values() for one in network.parameters())
    assert peak <= 1.1 * (plan.peak - weights) + LIBRARIES


def large_call(case):
    return {**case.call, **LARGE[case.pipeline_class.__module__.split(".")[2]]}


@over([case for case in FAMILIES if case.takes("height", "width")])
def test_the_peak_of_a_large_video_is_known_before(case):
    pipeline, given = fresh(case), large_call(case)
    plan = pipeline.fit("32GB", device=DEVICE, **given)
    weights = sum(one.nbytes for network in pipeline.networks.values() for one in network.parameters())
    _, peak = peak_of(lambda: pipeline(generator=seeded(), output_type="latent", **given) and None)
    _, decoding = peak_of(lambda: pipeline(generator=seeded(), output_type="pt", **given) and None)
    predicted = {stage: need - weights for stage, need in plan.needs.items()}
    assert peak == pytest.approx(max(predicted["encode"], predicted["denoise"]), rel=0.1, abs=LIBRARIES)
    # The frames of the result stay until the end; a plan counts those of a reader, who lets them go.
    assert decoding <= 1.1 * max(predicted.values()) + frames_bytes(given) + LIBRARIES
    assert decoding >= 0.9 * max(predicted.values()) - LIBRARIES


def frames_bytes(given):
    """Of the frames of a result in float32, twice: in parts and joined."""
    count = given.get("num_frames", given.get("video_length", 8))
    return 2 * 4 * 3 * count * given["height"] * given["width"]


@over(FAMILIES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_plan_for_less_memory_is_kept_to_and_gives_the_video(case, share):
    pipeline = fresh(case)
    planner = Planner(pipeline, usual_request(pipeline, case.call), DEVICE)
    most, least = planner.plan(10**10).peak, planner.least().memory
    memory = int(least + share * max(0, most - least))
    plan = pipeline.fit(memory, device=DEVICE, **case.call)
    assert plan.peak <= memory
    made, peak = peak_of(lambda: video(case, pipeline))
    assert peak <= plan.peak + LIBRARIES
    assert made.shape[-2:] == video(case).shape[-2:]
    assert bool(made.isfinite().all())


@over(FAMILIES)
def test_what_does_not_fit_is_told(case):
    with pytest.raises(DoesNotFitError, match=f"does not fit into .* on {DEVICE}"):
        fresh(case).fit(2**10, device=DEVICE, **case.call)


# ---- running out --------------------------------------------------------------------------------------------------


def latents_for(vae, side):
    """Latents of a picture, or of a clip, that is so high and wide in pixels."""
    ratio, frames = vae.spatial_compression_ratio, 5
    is_video = hasattr(vae, "temporal_compression_ratio")
    shape = (frames, side // ratio, side // ratio) if is_video else (side // ratio, side // ratio)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, vae.config.latent_channels, *shape, generator=generator).to(DEVICE)


def decode(vae, latents, coding=None):
    """The video in runs of frames, (1, 3, frames, height, width); pictures are frames of one."""
    latents = latents.to(next(vae.parameters()).device)
    if isinstance(vae, AutoencoderKLTemporalDecoder):
        return vae.decode_stream(latents, len(latents), coding=coding)
    runs = vae.decode_stream(latents, coding=coding)
    return runs if latents.dim() == 5 else (pictures.movedim(0, 1)[None] for pictures in runs)


def test_an_accelerator_without_memory_says_so_in_words_that_are_known():
    with no_more_than(2**26), pytest.raises(RuntimeError) as raised:
        torch.empty(2**28, dtype=torch.uint8, device=DEVICE)
    assert devices.is_out_of_memory(raised.value)
    assert torch.ones(4, device=DEVICE).sum().item() == 4, "and goes on afterwards"


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_decoding_that_runs_out_of_memory_goes_on_in_smaller_parts(name, caplog):
    vae, side = fresh(KINDS[name]).vae.to(DEVICE), SIDES[name]
    latents = latents_for(vae, side)
    caplog.clear()  # of what the making of the pipeline has told

    def frames(decoding):
        return torch.cat([run.cpu() for run in decoding], 2)

    def in_way(way):
        return frames(decode(vae, latents, way.coding))

    def falling_back():
        return frames(decoded(lambda one, coding: decode(one, latents, coding), vae, (side, side)))

    whole, usual = peak_of(falling_back)
    assert not caplog.records
    ways = smaller_ways(vae, side, side)
    largest_tiles = next(number for number, way in enumerate(ways, 1) if way.tile)
    needed = min(peak_of(lambda way=way: in_way(way))[1] for way in ways[:largest_tiles])
    assert needed + 2 * LIBRARIES < usual, "there is something to be saved"
    with no_more_than((needed + usual) // 2), caplog.at_level(logging.WARNING):
        made = falling_back()
    [*_, told] = [record.getMessage() for record in caplog.records]
    assert "ran out of memory" in told
    [way] = [way for way in ways if told.endswith(f"continues {way.name}.")]
    # What had come before stays as it was.
    torch.testing.assert_close(made[:, :, -1], in_way(way)[:, :, -1], rtol=1e-3, atol=1e-3)
    assert made.shape == whole.shape
    caplog.clear()
    torch.testing.assert_close(falling_back(), whole, rtol=1e-3, atol=1e-3)
    assert not caplog.records, "with memory, nothing is left of it"


@torch.inference_mode()
def test_decoding_ends_on_the_cpu_where_no_part_is_small_enough(caplog):
    vae = fresh(KINDS["AutoencoderKLCogVideoX"]).vae
    latents = latents_for(vae, 256).cpu()
    expected = torch.cat(list(decode(vae, latents)), 2)
    vae, latents = vae.to(DEVICE), latents.to(DEVICE)
    with no_more_than(2**20), caplog.at_level(logging.WARNING):
        made = torch.cat(
            [run.cpu() for run in decoded(lambda one, coding: decode(one, latents, coding), vae, (256, 256))], 2
        )
    assert "continues on the CPU" in caplog.text
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-3)
    assert next(vae.parameters()).device.type == DEVICE.type


@over([case for case in FAMILIES if case.takes("height", "width")])
def test_a_whole_run_survives_a_decoding_that_runs_out(case, caplog):
    pipeline, given = there(case), large_call(case)
    full, peak = peak_of(lambda: pipeline(generator=seeded(), output_type="pt", **given)[0].cpu())
    _, denoising = peak_of(lambda: pipeline(generator=seeded(), output_type="latent", **given) and None)
    memory = int(max(1.1 * denoising, 0.5 * peak)) + LIBRARIES
    if memory > 0.8 * peak:
        pytest.skip("decoding needs no more than denoising does")
    with no_more_than(memory), caplog.at_level(logging.WARNING):
        made = pipeline(generator=seeded(), output_type="pt", **given)[0].cpu()
    assert "Decoding ran out of memory" in caplog.text
    assert made.shape == full.shape and bool(made.isfinite().all())

"""Switches that trade time for memory."""

import pytest
import torch

from filmstrip.memory.offloading import tell_once
from tests.contract.registered import CASES
from tests.contract.runs import close, differs, fresh, over, over_all, seeded, shared, video

WITH_FREE_U = [case for case in CASES if hasattr(case.pipeline_class, "enable_freeu")]
WITH_CHUNKS = [
    (case, name)
    for case in CASES
    for name, network in shared(case.name).networks.items()
    if hasattr(network, "enable_forward_chunking")
]
# Of autoencoders of pictures; where an autoencoder sees several frames, their number changes the video.
WITH_DECODED_CHUNKS = [
    case
    for case in CASES
    if case.takes("decode_chunk_size") and any(one.elsewhere for one in case.variations_of("decode_chunk_size"))
]
WITH_VAE = [case for case in CASES if "vae" in case.pipeline_class.component_names()]


@over(WITH_VAE)
@pytest.mark.parametrize("generators", ["one", "one each"])
def test_slicing_changes_nothing(case, generators):
    pipeline = fresh(case)

    def run():
        generator = seeded() if generators == "one" else [seeded(0), seeded(1)]
        return video(case, pipeline, **case.batch, generator=generator)

    together = run()
    pipeline.enable_vae_slicing()
    assert pipeline.vae.use_slicing
    close(run(), together)
    pipeline.disable_vae_slicing()
    assert not pipeline.vae.use_slicing
    assert torch.equal(run(), together)


@over(WITH_VAE)
def test_tiling_of_a_picture_that_fits_a_tile_changes_nothing(case):
    pipeline = fresh(case)
    pipeline.enable_vae_tiling()
    assert pipeline.vae.use_tiling
    close(video(case, pipeline), video(case))
    pipeline.disable_vae_tiling()
    assert not pipeline.vae.use_tiling


@over(WITH_VAE)
def test_the_switches_of_the_autoencoder_itself_work_too(case):
    vae = fresh(case).vae
    for switch in ("tiling", "slicing"):
        getattr(vae, f"enable_{switch}")()
        assert getattr(vae, f"use_{switch}")
        getattr(vae, f"disable_{switch}")()
        assert not getattr(vae, f"use_{switch}")
    assert shared(case.name).vae is not vae


@over(WITH_DECODED_CHUNKS)
def test_frames_decoded_a_few_at_a_time_are_the_same(case):
    pipeline, counts = fresh(case), []
    stream = pipeline.vae.decode_stream
    pipeline.vae.decode_stream = lambda z, coding=None: (counts.append(len(z)), stream(z, coding))[1]
    together = video(case, pipeline, **case.batch, decode_chunk_size=None)
    assert len(counts) == 1
    for size in (1, 3):
        counts.clear()
        close(video(case, pipeline, **case.batch, decode_chunk_size=size), together)
        assert max(counts) == size and len(counts) > 1


@over(WITH_FREE_U)
def test_free_u_changes_the_video_until_it_is_switched_off(case):
    pipeline = fresh(case)
    pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert differs(video(case, pipeline), video(case))
    pipeline.disable_freeu()
    assert torch.equal(video(case, pipeline), video(case))


@pytest.mark.parametrize(("case", "name"), WITH_CHUNKS, ids=[f"{case.name}: {name}" for case, name in WITH_CHUNKS])
def test_feed_forward_in_chunks_changes_nothing(case, name):
    pipeline = fresh(case)
    network = getattr(pipeline, name)
    layer = next(module for module in network.modules() if type(module).__name__ == "FeedForward")
    shapes, counts = [], []
    layer.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    layer.net[0].register_forward_pre_hook(lambda _, given: counts.append(given[0].shape[:-1].numel()))
    together = video(case, pipeline)
    batch, tokens, _ = shapes[0]
    assert batch > 1 and tokens > 5
    for given, expected in (({}, tokens), ({"chunk_size": 5, "dim": 1}, 5 * batch)):
        counts.clear()
        network.enable_forward_chunking(**given)
        close(video(case, pipeline), together)
        assert counts[0] == expected
    network.disable_forward_chunking()
    assert torch.equal(video(case, pipeline), together)
    for given in ({"dim": 2}, {"chunk_size": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(given))} must be"):
            network.enable_forward_chunking(**given)


@over_all
@pytest.mark.parametrize("switch", ["attention_slicing", "xformers_memory_efficient_attention"])
def test_attention_is_memory_efficient_already_which_is_said_once(case, switch, caplog):
    pipeline = fresh(case)
    tell_once.cache_clear()
    for _ in range(2):
        getattr(pipeline, f"enable_{switch}")()
    assert caplog.text.count("Attention is memory-efficient already") == 1
    getattr(pipeline, f"disable_{switch}")()


@over([case for case in CASES if hasattr(case.pipeline_class, "fuse_qkv_projections")])
def test_fused_projections_change_nothing(case):
    pipeline = fresh(case)
    pipeline.fuse_qkv_projections()
    close(video(case, pipeline), video(case))
    pipeline.unfuse_qkv_projections()
    close(video(case, pipeline), video(case))

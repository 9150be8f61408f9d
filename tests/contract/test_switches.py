"""Switches that trade time for memory."""

import pytest
import torch

from tests.contract.registered import CASES
from tests.contract.runs import close, fresh, over, seeded, shared, video

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

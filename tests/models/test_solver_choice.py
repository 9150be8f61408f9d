"""Pipelines with solvers that their checkpoints do not name: they run, or are refused before anything else is done."""

import pytest
import torch
from PIL import Image

import filmstrip
from filmstrip.schedulers.flows import solvers_for
from tests import tiny, tiny_stable_diffusion

FLOWS, DIFFUSIONS = solvers_for(flow=True), solvers_for(flow=False)
CONFIGS = {
    "plain": {},
    "shifted": {"shift": 3.0},
    "published": {
        "use_dynamic_shifting": True,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
        "shift_terminal": 0.1,
    },
}
CHANGE = {"prompt": "a cat", "height": 32, "width": 48, "max_sequence_length": 16}
SMALL = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 3, "max_sequence_length": 8}


CLIP = [Image.new("RGB", (48, 32), (20 * index, 0, 90)) for index in range(9)]


CHANGE["video"] = CLIP


def ltx_pipeline(kind="LTXPipeline", **options):
    torch.manual_seed(0)
    return getattr(filmstrip, kind)(
        scheduler=filmstrip.FlowMatchEulerDiscreteScheduler(**options),
        vae=filmstrip.AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
        transformer=filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
    )


@pytest.fixture(scope="module")
def cogvideox():
    torch.manual_seed(0)
    return filmstrip.CogVideoXVideoToVideoPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.text_encoder(),
        vae=filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        transformer=filmstrip.CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER),
        scheduler=filmstrip.CogVideoXDDIMScheduler(),
    )


@pytest.fixture
def changing(cogvideox):
    first = cogvideox.scheduler
    yield cogvideox
    cogvideox.scheduler = first


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", ["LTXPipeline", "LTXConditionPipeline"])
def test_solvers_that_know_flows_make_the_levels_that_the_pipeline_asks_for(kind, options):
    pipeline = ltx_pipeline(kind, **options)
    first, call = pipeline.scheduler, {**SMALL, "prompt": "a cat", "output_type": "latent"}
    for name, solver in FLOWS.items():
        pipeline.scheduler = solver.from_config(first.config)
        request = pipeline.request(**call)
        expected = filmstrip.FlowMatchEulerDiscreteScheduler.from_config(first.config)
        run = pipeline.start(request)
        pipeline.scheduler = expected
        sigmas = torch.cat([run.sigmas[: -1 : run.order], run.sigmas[-1:]])
        torch.testing.assert_close(sigmas, pipeline.start(request).sigmas, rtol=0, atol=2e-6)
        pipeline.scheduler = solver.from_config(first.config)
        frames = pipeline(**call, generator=torch.Generator().manual_seed(0)).frames
        assert torch.isfinite(frames).all(), name


@pytest.mark.parametrize("name", sorted(DIFFUSIONS.keys() - FLOWS.keys()))
def test_solvers_that_know_no_flows_are_refused(name):
    pipeline = ltx_pipeline()
    pipeline.scheduler = DIFFUSIONS[name].from_config(pipeline.scheduler.config)
    with pytest.raises(ValueError, match=f"^{name} knows no flows.*DPMSolverMultistepScheduler"):
        pipeline.request(prompt="a cat", **SMALL)
    with pytest.raises(ValueError, match=f"^{name} knows no flows.*UniPCMultistepScheduler"):
        pipeline(prompt="a cat", **SMALL)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_refused_by_networks_that_predict_noise(name, changing):
    pictures = filmstrip.TextToVideoZeroPipeline(**tiny_stable_diffusion.parts())
    for pipeline, call in ((changing, CHANGE), (pictures, {"prompt": "a cat"})):
        pipeline.scheduler = FLOWS[name].from_config(filmstrip.FlowMatchEulerDiscreteScheduler().config)
        with pytest.raises(ValueError, match=f"^{name} follows a flow.*DDIMScheduler.*PNDMScheduler"):
            pipeline.request(**call)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_preconditioned_solvers_are_refused_by_networks_that_are_not(name, changing):
    kind, config = getattr(filmstrip, name), filmstrip.DDIMScheduler(beta_schedule="scaled_linear").config
    pictures = filmstrip.TextToVideoZeroPipeline(**tiny_stable_diffusion.parts())
    for pipeline, call in ((changing, CHANGE), (pictures, {"prompt": "a cat"})):
        pipeline.scheduler = kind.from_config(config)
        with pytest.raises(ValueError, match=f"^{name} is for networks with the preconditioning of EDM.*DDIMScheduler"):
            pipeline.request(**call)
    flow = ltx_pipeline()
    flow.scheduler = kind.from_config(flow.scheduler.config)
    with pytest.raises(ValueError, match=f"^{name} knows no flows"):
        flow.request(prompt="a cat", **SMALL)


@pytest.mark.parametrize("name", ["SASolverScheduler", "TCDScheduler"])
def test_a_video_is_changed_with_fresh_noise_of_its_own_generator(name, changing):
    changing.scheduler = DIFFUSIONS[name].from_config(changing.scheduler.config)
    call = {**CHANGE, "num_inference_steps": 4, "output_type": "latent"}
    made = [changing(**call, generator=torch.Generator().manual_seed(seed)).frames for seed in (1, 1, 2)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler", "DDIMScheduler"])
def test_video_to_video_keeps_as_much_with_every_solver(name, changing):
    changing.scheduler = DIFFUSIONS[name].from_config(changing.scheduler.config)
    call = {**CHANGE, "num_inference_steps": 10, "output_type": "latent"}
    run = changing.start(changing.request(**call, strength=0.5))
    assert [*run.begins].index(run.begin_of(0.5)) == 5
    for strength in (0.0, 0.05):
        with pytest.raises(ValueError, match=f"strength {strength}.* leaves none of 10 steps"):
            changing.request(**call, strength=strength)
    steps = [event for event in changing.stream(**call, strength=0.2) if event.stage == "denoise"]
    assert len(steps) == len(run.timesteps) - run.begin_of(0.2) == (2 if run.order == 1 else 3)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DEISMultistepScheduler", "PNDMScheduler"])
def test_timesteps_of_a_call_are_obeyed_or_refused(name, changing):
    changing.scheduler = DIFFUSIONS[name].from_config(changing.scheduler.config)
    if name == "PNDMScheduler":
        with pytest.raises(ValueError, match="timesteps has no effect with PNDMScheduler; drop it, or use DDIM"):
            changing.request(**CHANGE, timesteps=[900, 500, 100])
    else:
        run = changing.start(changing.request(**CHANGE, timesteps=[900, 500, 100]))
        assert run.timesteps.tolist() == [900, 500, 100]

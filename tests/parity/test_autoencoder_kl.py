"""The image autoencoder computes what the reference's does, whole, in tiles and picture by picture."""

import weakref

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from filmstrip.memory.tiling import Tile
from filmstrip.models.stable_diffusion import autoencoder
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL
from filmstrip.nn import resnet
from tests.parity.references import randomise, relative_error, transplant

CONFIGS = {
    "three levels": {},
    "one level": {"block_out_channels": [16]},
    "four levels, rising widths": {"block_out_channels": [8, 16, 16, 24]},
    "two layers": {"layers_per_block": 2},
    "other groups": {"norm_num_groups": 8, "block_out_channels": [8, 16, 40]},
    "16 latent channels": {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
    "without the first quant conv": {"use_quant_conv": False},
    "without the second quant conv": {"use_post_quant_conv": False},
    "without attention": {"mid_block_add_attention": False},
    "in and out": {"in_channels": 4, "out_channels": 2},
    "mish": {"act_fn": "mish"},
}


def config(**changes):
    options = {
        "block_out_channels": [8, 16, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 32,
        **changes,
    }
    levels = len(options["block_out_channels"])
    types = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
    return {**types, **options}


def pair(**changes):
    theirs = randomise(diffusers.AutoencoderKL(**config(**changes)))
    return transplant(AutoencoderKL(**config(**changes)), theirs), theirs


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moments(model, pictures):
    posterior = model.encode(pictures).latent_dist
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


@pytest.fixture(params=["whole", "divided"])
def division(request, monkeypatch):
    """How layers work on a picture: at once, or in stripes of few rows."""
    if request.param == "divided":
        monkeypatch.setattr(resnet, "STRIPE_CPU", 700)
        monkeypatch.setattr(resnet, "PIXELS_WORTH_ADDING", 1)


@torch.no_grad()
@pytest.mark.usefixtures("division")
@pytest.mark.parametrize("name", CONFIGS)
def test_both_ways(name):
    ours, theirs = pair(**CONFIGS[name])
    pictures = normal(2, ours.config.in_channels, 24, 32)
    assert relative_error(moments(ours, pictures), moments(theirs, pictures)) < 1e-5
    latents = normal(2, ours.config.latent_channels, 6, 8, seed=1)
    assert relative_error(ours.decode(latents).sample, theirs.decode(latents).sample) < 1e-5


@torch.no_grad()
@pytest.mark.usefixtures("division")
@pytest.mark.parametrize("size", [(8, 8), (13, 30), (27, 9), (31, 33)])
@pytest.mark.parametrize("batch", [1, 3])
def test_odd_sizes(size, batch):
    ours, theirs = pair()
    pictures, latents = normal(batch, 3, *size), normal(batch, 4, 5, 7)
    assert relative_error(moments(ours, pictures), moments(theirs, pictures)) < 1e-5
    assert relative_error(ours.decode(latents)[0], theirs.decode(latents)[0]) < 1e-5


@torch.no_grad()
def test_there_and_back_with_a_drawn_posterior():
    ours, theirs = pair()
    pictures = normal(2, 3, 16, 16)
    for options in ({}, {"sample_posterior": True}, {"return_dict": False}):
        results = [
            model(pictures, generator=torch.Generator().manual_seed(3), **options)[0] for model in (ours, theirs)
        ]
        assert relative_error(*results) < 1e-5


# ---- parts of a batch, parts of a picture ----------------------------------------------------------------------------


@torch.no_grad()
def test_slicing_changes_nothing():
    ours, theirs = pair()
    pictures, latents = normal(3, 3, 16, 16), normal(3, 4, 4, 4)
    expected = moments(ours, pictures), ours.decode(latents).sample
    for model in (ours, theirs):
        model.enable_slicing()
    assert torch.equal(moments(ours, pictures), expected[0])
    assert torch.equal(ours.decode(latents).sample, expected[1])
    assert relative_error(ours.decode(latents).sample, theirs.decode(latents).sample) < 1e-5


def sizes_seen(model, call):
    """How many pictures the decoder was given at a time."""
    seen = []
    with model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        call()
    return seen


def test_pictures_are_decoded_together_only_where_gradients_are_recorded():
    model = AutoencoderKL(**config())
    latents = normal(3, 4, 2, 2)
    assert sizes_seen(model, lambda: model.decode(latents)) == [3]
    model.enable_slicing()
    assert sizes_seen(model, lambda: model.decode(latents)) == [1, 1, 1]
    model.disable_slicing()
    with torch.no_grad():
        assert sizes_seen(model, lambda: model.decode(latents)) == [1, 1, 1]


@torch.no_grad()
@pytest.mark.parametrize("is_tiled", [False, True])
def test_a_stream_gives_the_pictures_one_after_the_other(is_tiled):
    model = randomise(AutoencoderKL(**config()))
    if is_tiled:
        model.enable_tiling()
    latents = normal(3, 4, 9, 10)
    stream = model.decode_stream(latents)
    assert sizes_seen(model, lambda: next(stream))[0] == 1
    whole = model.decode(latents).sample
    assert torch.equal(torch.cat([*model.decode_stream(latents)]), whole)
    assert torch.equal(torch.cat([*stream]), whole[1:])


@torch.no_grad()
def test_a_block_lets_go_of_its_input():
    model = AutoencoderKL(**config())
    kept, alive = [], []
    doubled, second = model.decoder.up_blocks[0].upsamplers[0], model.decoder.up_blocks[1].resnets[1]
    doubled.register_forward_hook(lambda *call: kept.append(weakref.ref(call[-1])))
    second.register_forward_pre_hook(lambda *_: alive.append(kept[0]() is not None))
    model.decode(normal(1, 4, 4, 4))
    assert alive == [False]


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (13, 19), (16, 6), (20, 23), (11, 32)])
def test_tiles_of_latents(size):
    ours, theirs = pair()
    ours.enable_tiling(), theirs.enable_tiling()
    latents = normal(2, 4, *size)
    tiled = ours.decode(latents).sample
    assert relative_error(tiled, theirs.decode(latents).sample) < 1e-5
    ours.disable_tiling()
    is_one_tile = max(size) <= 8
    assert torch.equal(ours.decode(latents).sample, tiled) == is_one_tile


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (33, 32), (53, 77), (64, 24), (90, 95)])
def test_tiles_of_pixels(size):
    ours, theirs = pair()
    ours.enable_tiling(), theirs.enable_tiling()
    pictures = normal(1, 3, *size)
    tiled = moments(ours, pictures)
    assert relative_error(tiled, moments(theirs, pictures)) < 1e-5
    ours.disable_tiling()
    assert torch.equal(moments(ours, pictures), tiled) == (max(size) <= 32)


@torch.no_grad()
@pytest.mark.parametrize(("sample", "latent", "overlap"), [(16, 4, 0.5), (64, 16, 0.25), (32, 8, 0.125)])
def test_settings_of_tiles(sample, latent, overlap):
    ours, theirs = pair()
    for model in (ours, theirs):
        model.tile_sample_min_size, model.tile_latent_min_size, model.tile_overlap_factor = sample, latent, overlap
        model.enable_tiling()
    latents, pictures = normal(1, 4, 19, 21), normal(1, 3, 71, 55)
    assert relative_error(ours.decode(latents).sample, theirs.decode(latents).sample) < 1e-5
    assert relative_error(moments(ours, pictures), moments(theirs, pictures)) < 1e-5


@torch.no_grad()
def test_tiles_lie_at_whole_latents_whatever_their_size():
    model = randomise(AutoencoderKL(**config(sample_size=[24, 24])))  # six latents; the reference joins 9 for 8
    model.enable_tiling()
    assert model.decode(normal(1, 4, 8, 11)).sample.shape == (1, 3, 32, 44)
    assert moments(model, normal(1, 3, 32, 44)).shape == (1, 8, 8, 11)


@torch.no_grad()
def test_the_last_rows_need_not_fill_a_latent(monkeypatch):
    model = randomise(AutoencoderKL(**config()))
    model.enable_tiling()
    tiles = []
    whole = autoencoder.tiled_in_space

    def watched(code, pictures, rows: Tile, columns: Tile, ratio):
        return whole(lambda tile: (tiles.append(tile.shape[2:]), code(tile))[1], pictures, rows, columns, ratio)

    monkeypatch.setattr(autoencoder, "tiled_in_space", watched)
    assert moments(model, normal(1, 3, 50, 32)).shape == (1, 8, 12, 8)
    assert tiles == [(32, 32), (32, 8), (26, 32), (26, 8)]


# ---- files -----------------------------------------------------------------------------------------------------------

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@torch.no_grad()
@pytest.mark.parametrize("are_old", [False, True])
def test_files_of_either_naming_load(are_old, tmp_path):
    theirs = randomise(diffusers.AutoencoderKL(**config()))
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    if are_old:
        for new, old in OLD_NAMES.items():
            tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
        assert sum("attentions.0.query" in name for name in tensors) == 4
        assert not any("to_" in name for name in tensors)
        save_file(tensors, file)
    latents = normal(1, 4, 6, 6)
    ours = AutoencoderKL.from_pretrained(tmp_path)
    assert relative_error(ours.decode(latents).sample, theirs.decode(latents).sample) < 1e-5
    ours.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / file.name).keys() == theirs.state_dict().keys()


def test_a_published_config_keeps_what_pipelines_read():
    published = {"scaling_factor": 0.13025, "force_upcast": False, "shift_factor": 0.1, "latents_mean": [0.0] * 4}
    model = AutoencoderKL.from_config(config(**published))
    assert {name: getattr(model.config, name) for name in published} == published
    assert AutoencoderKL().config.scaling_factor == diffusers.AutoencoderKL().config.scaling_factor


@pytest.mark.parametrize("changes", [{"down_block_types": ["AttnDownBlock2D"] * 3}, {"up_block_types": []}])
def test_other_blocks_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        AutoencoderKL(**config(**changes))


# ---- training, types, compilation ------------------------------------------------------------------------------------


def test_gradients_are_the_references_recomputed_or_not():
    ours, theirs = pair()
    pictures = normal(2, 3, 16, 12)
    theirs(pictures).sample.square().mean().backward()
    for recomputes in (False, True):
        ours.zero_grad()
        if recomputes:
            ours.enable_gradient_checkpointing()
        ours(pictures).sample.square().mean().backward()
        for name, parameter in theirs.named_parameters():
            difference = ours.get_parameter(name).grad - parameter.grad
            assert difference.norm() <= 1e-4 * parameter.grad.norm() + 1e-6, name


def test_recomputing_keeps_less():
    def kept(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            model(normal(1, 3, 32, 32))
        return sum(sizes)

    model = AutoencoderKL(**config())
    everything = kept(model)
    model.enable_gradient_checkpointing()
    assert kept(model) < 0.5 * everything


@torch.no_grad()
@pytest.mark.usefixtures("division")
def test_bfloat16_is_no_further_off_than_the_references():
    ours, theirs = pair(block_out_channels=[32, 64, 64], norm_num_groups=8)
    pictures, latents = normal(2, 3, 48, 48), normal(2, 4, 16, 16)
    exact = moments(theirs, pictures), theirs.decode(latents).sample
    ours, theirs = ours.bfloat16(), theirs.bfloat16()
    pictures, latents = pictures.bfloat16(), latents.bfloat16()
    for got, usual, wanted in zip(
        (moments(ours, pictures), ours.decode(latents).sample),
        (moments(theirs, pictures), theirs.decode(latents).sample),
        exact,
        strict=True,
    ):
        assert got.dtype == torch.bfloat16
        assert relative_error(got, wanted) <= 1.05 * relative_error(usual, wanted)


@pytest.mark.parametrize("is_recording", [True, False])
def test_it_compiles_whole(is_recording):
    model = randomise(AutoencoderKL(**config(block_out_channels=[8])))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    pictures = normal(1, 3, 8, 8)
    with torch.set_grad_enabled(is_recording):
        assert relative_error(compiled(pictures).sample.detach(), model(pictures).sample.detach()) < 1e-6


@torch.no_grad()
def test_another_processor_computes_the_attention():
    ours, theirs = pair()
    latents = normal(1, 4, 4, 4)
    calls = []

    def nothing(attn, hidden_states, *_, **__):
        calls.append(attn.heads)
        return attn.to_out[0](attn.to_v(hidden_states))

    assert set(ours.attn_processors) == set(theirs.attn_processors)
    ours.set_attn_processor(nothing)
    ours.decode(latents)
    assert calls == [1]
    ours.set_default_attn_processor()
    assert relative_error(ours.decode(latents).sample, theirs.decode(latents).sample) < 1e-5

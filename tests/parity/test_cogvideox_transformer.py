"""The transformer of CogVideoX gives the reference's numbers, in every variant, and can be trained and traced."""

from __future__ import annotations

import copy

import diffusers
import pytest
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline

from filmstrip.models.cogvideox.attention import CogVideoXProjections
from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 12,
    "text_embed_dim": 20,
    "num_layers": 2,
    "sample_height": 6,
    "sample_width": 10,
    "sample_frames": 13,
    "max_text_seq_length": 7,
}
ROTARY = {"use_rotary_positional_embeddings": True}
VARIANTS = {
    "2b": {},
    "5b": ROTARY,
    "5b-I2V": {**ROTARY, "use_learned_positional_embeddings": True, "in_channels": 8},
    "1.5": {**ROTARY, "patch_size_t": 2, "patch_bias": False},
    "1.5-I2V": {**ROTARY, "patch_size_t": 2, "patch_bias": False, "in_channels": 8, "ofs_embed_dim": 12},
    "control": {**ROTARY, "in_channels": 12},
}
OPTIONS = {
    "one head": {"num_attention_heads": 1},
    "three heads of 48": {"num_attention_heads": 3, "attention_head_dim": 48},
    "five heads of 32": {"num_attention_heads": 5, "attention_head_dim": 32},
    "no affine norms": {"norm_elementwise_affine": False, "norm_eps": 1e-3},
    "no biases": {"attention_bias": False, "patch_bias": False},
    "sines first, shifted": {"flip_sin_to_cos": False, "freq_shift": 1},
    "other channels": {"in_channels": 6, "out_channels": 10, "patch_size": 1},
    "larger patches": {"patch_size": 3, "sample_height": 9, "sample_width": 15},
    "other interpolation": {"spatial_interpolation_scale": 0.7, "temporal_interpolation_scale": 3.0},
    "other compression": {"temporal_compression_ratio": 8, "sample_frames": 25},
}
ACTIVATIONS = ["gelu", "gelu-approximate", "geglu", "geglu-approximate", "swiglu", "linear-silu"]


def pair(*options, seed=0):
    config = TINY.copy()
    for option in options:
        config |= option
    reference = diffusers.CogVideoXTransformer3DModel(**config)
    sines = dict(reference.named_buffers()).get("patch_embed.pos_embedding")
    computed = None if sines is None or config.get("use_learned_positional_embeddings") else sines.clone()
    randomise(reference, seed)
    if computed is not None:  # a table of no checkpoint, which is what its formula says
        sines.copy_(computed)
    return transplant(CogVideoXTransformer3DModel(**config), reference), reference


def inputs(network, size=(4, 6, 10), batch=2, prompt_tokens=7, rotary=None):
    generator = torch.Generator().manual_seed(1)
    frames, height, width = size
    config = network.config
    if rotary is None and config["use_rotary_positional_embeddings"]:
        rotary = reference_rotary(network, size)
    return {
        "hidden_states": torch.randn(batch, frames, config["in_channels"], height, width, generator=generator),
        "encoder_hidden_states": torch.randn(batch, prompt_tokens, config["text_embed_dim"], generator=generator),
        "timestep": torch.randint(0, 1000, (batch,), generator=generator),
        "ofs": torch.tensor([2.0]) if config["ofs_embed_dim"] else None,
        "image_rotary_emb": rotary,
    }


def reference_rotary(network, size):
    """Cosines and sines as the reference's pipeline makes them, on a stand-in for it."""
    frames, height, width = size
    pipeline = CogVideoXPipeline.__new__(CogVideoXPipeline)
    object.__setattr__(pipeline, "transformer", network)
    object.__setattr__(pipeline, "vae_scale_factor_spatial", 8)
    return pipeline._prepare_rotary_positional_embeddings(8 * height, 8 * width, frames, torch.device("cpu"))


def compare(ours, reference, **options):
    given = inputs(reference, **options)
    assert relative_error(ours(**given).sample, reference(**given).sample) < TOLERANCE


over_variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


@over_variants
@pytest.mark.parametrize(("batch", "seed"), [(1, 0), (3, 1)])
@torch.no_grad()
def test_every_variant_agrees(variant, batch, seed):
    ours, reference = pair(variant, seed=seed)
    compare(ours, reference, batch=batch)


@pytest.mark.parametrize("name", ["2b", "5b", "1.5-I2V"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_every_option_agrees(name, options):
    ours, reference = pair(VARIANTS[name], options)
    patch = options.get("patch_size", 2)
    compare(ours, reference, size=(4, 3 * patch, 5 * patch))


@pytest.mark.parametrize("name", ACTIVATIONS)
@torch.no_grad()
def test_every_activation_agrees(name):
    compare(*pair({"activation_fn": name}))


@pytest.mark.parametrize("name", ["silu", "swish", "mish", "gelu", "relu"])
@torch.no_grad()
def test_every_activation_of_the_timestep_agrees(name):
    compare(*pair(VARIANTS["1.5-I2V"], {"timestep_activation_fn": name}))


@pytest.mark.parametrize("size", [(1, 2, 2), (2, 6, 10), (4, 6, 10), (2, 14, 6), (5, 4, 18)])
@torch.no_grad()
def test_sine_positions_agree_at_other_sizes(size):
    ours, reference = pair()
    compare(ours, reference, size=size)


@pytest.mark.parametrize("size", [(1, 2, 2), (3, 6, 10), (5, 14, 6), (4, 4, 30)])
@torch.no_grad()
def test_rotations_agree_at_other_sizes(size):
    ours, reference = pair(ROTARY)
    compare(ours, reference, size=size)


@torch.no_grad()
def test_another_number_of_frames_takes_sine_positions_in_place_of_the_learned_as_the_reference_does():
    ours, reference = pair(VARIANTS["5b-I2V"])
    for frames in (2, 5, 1):
        compare(ours, reference, size=(frames, 6, 10))


@torch.no_grad()
def test_rotated_models_take_prompts_of_any_length():
    ours, reference = pair(ROTARY)
    for prompt_tokens in (1, 3, 11):
        compare(ours, reference, prompt_tokens=prompt_tokens)


@torch.no_grad()
def test_the_output_is_a_tuple_on_request_and_nothing_is_rotated_without_a_table():
    ours, reference = pair(ROTARY)
    given = inputs(ours) | {"image_rotary_emb": None}
    (sample,) = ours(**given, return_dict=False)
    assert relative_error(sample, reference(**given, return_dict=False)[0]) < TOLERANCE
    assert relative_error(ours(**inputs(ours)).sample, sample) > 0.01


@pytest.mark.parametrize("options", [{}, {"attention_bias": False}], ids=["biases", "no biases"])
def test_one_product_in_place_of_three_changes_nothing(options):
    ours, reference = pair(ROTARY, options)
    given, names = inputs(ours), set(ours.state_dict())
    with torch.no_grad():
        plain = ours(**given).sample
    ours.fuse_qkv_projections()
    assert [type(part).__name__[:5] for part in ours.attn_processors.values()] == ["Fused"] * 2
    assert len(ours.original_attn_processors) == 2
    assert set(ours.state_dict()) == names
    with torch.no_grad():
        torch.testing.assert_close(ours(**given).sample, plain, rtol=0, atol=1e-5)
    expected, learned = gradients(reference, **given), gradients(ours, **given)
    assert all(
        (learned[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 for name, gradient in expected.items()
    )
    with torch.no_grad():
        for network in (ours, reference):  # a step of training shows in the one product
            for block in network.transformer_blocks:
                block.attn1.to_v.weight.mul_(1.5)
        changed = reference(**given).sample
        assert relative_error(plain, changed) > 1e-3
        for network in (ours, copy.deepcopy(ours), ours.double().float()):
            assert relative_error(network(**given).sample, changed) < TOLERANCE
        ours.load_state_dict({name: value.clone() for name, value in reference.state_dict().items()}, assign=True)
        assert relative_error(ours(**given).sample, changed) < TOLERANCE
        ours.unfuse_qkv_projections()
        assert relative_error(ours(**given).sample, changed) < TOLERANCE


@torch.no_grad()
def test_the_one_product_is_used_until_the_weights_are_replaced(monkeypatch):
    calls = []
    plain = CogVideoXProjections.__call__
    monkeypatch.setattr(CogVideoXProjections, "__call__", lambda *given: calls.append(1) or plain(*given))
    ours, _ = pair(ROTARY)
    given = inputs(ours)
    ours.fuse_qkv_projections()
    ours(**given), ours.double().float()(**given)
    assert not calls
    ours.load_state_dict({name: value.clone() for name, value in ours.state_dict().items()}, assign=True)
    ours(**given)
    assert calls


@torch.no_grad()
def test_a_network_with_one_product_is_saved_as_any_other(tmp_path):
    ours, _ = pair(ROTARY)
    ours.fuse_qkv_projections()
    ours.save_pretrained(tmp_path)
    state = CogVideoXTransformer3DModel.from_pretrained(tmp_path).state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in ours.state_dict().items())


# ---- rotations -------------------------------------------------------------------------------------------------------

SIZES = [(13, 60, 90), (2, 6, 10), (1, 2, 2), (7, 40, 90), (5, 90, 60), (3, 62, 34), (4, 200, 30)]


def halves(cos, sin):
    assert torch.equal(cos[:, ::2], cos[:, 1::2]) and torch.equal(sin[:, ::2], sin[:, 1::2])
    return torch.stack([cos[:, ::2], sin[:, ::2]], dim=-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("base", [(60, 90), (6, 10), (30, 30)])
def test_the_rotations_of_1_0_are_the_reference_pipelines(size, base):
    network = CogVideoXTransformer3DModel(**TINY | ROTARY | {"sample_height": base[0], "sample_width": base[1]})
    assert relative_error(network.rotary_table(size), halves(*reference_rotary(network, size))) < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_the_rotations_of_1_5_are_the_reference_pipelines(size):
    options = {"patch_size_t": 2, "sample_height": 300, "sample_width": 300}
    network = CogVideoXTransformer3DModel(**TINY | ROTARY | options)
    assert relative_error(network.rotary_table(size), halves(*reference_rotary(network, size))) < TOLERANCE


def test_the_rotations_of_1_5_go_on_beyond_the_base_grid():
    network = CogVideoXTransformer3DModel(**TINY | VARIANTS["1.5"])
    size = (4, 20, 34)
    with pytest.raises(RuntimeError):
        reference_rotary(network, size)
    longer = get_3d_rotary_pos_embed(16, None, (10, 17), 2, grid_type="slice", max_size=(10, 17))
    assert relative_error(network.rotary_table(size), halves(*longer)) < TOLERANCE


def test_a_model_with_sine_positions_has_no_rotations():
    assert CogVideoXTransformer3DModel(**TINY).rotary_table((2, 6, 10)) is None


@pytest.mark.parametrize("name", ["5b", "5b-I2V", "1.5"])
@torch.no_grad()
def test_our_table_and_the_references_pair_give_the_same(name):
    ours, _ = pair(VARIANTS[name])
    ours_given = ours(**inputs(ours, rotary=ours.rotary_table((4, 6, 10)))).sample
    torch.testing.assert_close(ours_given, ours(**inputs(ours)).sample, rtol=0, atol=1e-5)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_learned_positional_embeddings": True}, "needs use_rotary_positional_embeddings"),
        ({"dropout": 0.1}, r"dropout must be 0 .* got 0\.1"),
        ({"attention_head_dim": 12}, "multiple of 16, got 24"),
        ({"timestep_activation_fn": "tanh"}, "one of silu, .* got 'tanh'"),
        ({"ofs_embed_dim": 16}, "must equal time_embed_dim, 12, .* got 16"),
    ],
)
def test_configurations_that_can_not_work_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        CogVideoXTransformer3DModel(**TINY | options)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("5b", {"attention_kwargs": {"scale": 2.0}}, r"attention_kwargs has no effect .*\['scale'\]"),
        ("5b", {"timestep_cond": torch.zeros(2, 1)}, "timestep_cond has no effect"),
        ("5b", {"ofs": torch.tensor([2.0])}, "ofs has no effect"),
        ("1.5-I2V", {"ofs": None}, "needs ofs"),
        ("1.5", {"hidden_states": torch.zeros(2, 3, 4, 6, 10)}, "frames .* multiple of 2, .* got 3"),
        ("2b", {"hidden_states": torch.zeros(2, 2, 4, 6, 9)}, "width .* multiple of 2, .* got 9"),
        ("5b-I2V", {"hidden_states": torch.zeros(2, 2, 8, 4, 10)}, "must be 6 x 10, .* got 4 x 10"),
        ("5b-I2V", {"encoder_hidden_states": torch.zeros(2, 8, 20)}, "for 7 tokens of a prompt, got 8"),
    ],
)
def test_inputs_that_can_not_work_are_explained(variant, changes, message):
    network = CogVideoXTransformer3DModel(**TINY | VARIANTS[variant])
    with pytest.raises(ValueError, match=message):
        network(**inputs(network) | changes)


# ---- training, tracing, precision ------------------------------------------------------------------------------------


def gradients(network, **given):
    network.zero_grad()
    network(**given).sample.square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", ["2b", "5b-I2V", "1.5-I2V"])
def test_it_learns_the_same_with_and_without_checkpointing(name):
    ours, reference = pair(VARIANTS[name])
    given = inputs(reference)
    expected, plain = gradients(reference, **given), gradients(ours, **given)
    ours.enable_gradient_checkpointing()
    again = gradients(ours, **given)
    for parameter, gradient in expected.items():
        assert (plain[parameter] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, parameter
        torch.testing.assert_close(again[parameter], plain[parameter], msg=parameter)


@over_variants
def test_the_same_comes_out_with_and_without_gradients(variant):
    ours, _ = pair(variant)
    given = inputs(ours)
    before = {name: value.clone() for name, value in given.items() if isinstance(value, torch.Tensor)}
    trained = ours(**given).sample
    with torch.no_grad():
        torch.testing.assert_close(ours(**given).sample, trained.detach())
    assert all(torch.equal(given[name], value) for name, value in before.items()), "an input was overwritten"


@over_variants
@torch.no_grad()
def test_it_is_traced_whole(variant):
    ours, _ = pair(variant)
    given = inputs(ours)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**given).sample, ours(**given).sample)


@pytest.mark.parametrize("name", ["2b", "5b", "1.5-I2V"])
@torch.no_grad()
def test_in_bfloat16_it_is_no_further_from_the_truth(name):
    ours, reference = pair(VARIANTS[name], {"attention_head_dim": 64, "sample_height": 24, "sample_width": 26})
    given = inputs(reference, size=(4, 24, 26), batch=1)
    truth = reference(**given).sample
    half = {key: given[key].bfloat16() for key in ("hidden_states", "encoder_hidden_states")}
    errors = [relative_error(network.bfloat16()(**given | half).sample, truth) for network in (ours, reference)]
    assert errors[0] <= 1.1 * errors[1]

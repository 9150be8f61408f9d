"""Encoders loaded by us compute exactly what transformers' own loading gives."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from filmstrip.checkpoints import CheckpointError, load_component, save_component  # noqa: E402

T5 = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 50, "dropout_rate": 0.0}
CLIP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "bos_token_id": 0,
    "eos_token_id": 49,
}
LLAMA = CLIP | {"num_key_value_heads": 2}


def make(kind):
    torch.manual_seed(0)
    if kind == "T5EncoderModel":
        config = transformers.T5Config(**T5, feed_forward_proj="gated-gelu")
    elif kind == "UMT5EncoderModel":
        config = transformers.UMT5Config(**T5)
    elif kind == "LlamaModel":
        config = transformers.LlamaConfig(**LLAMA)
    elif kind.startswith("CLIPVision"):
        sizes = {
            name: value for name, value in CLIP.items() if name not in ("vocab_size", "bos_token_id", "eos_token_id")
        }
        config = transformers.CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    else:
        config = transformers.CLIPTextConfig(**CLIP)
    return getattr(transformers, kind)(config).eval()


def output(network):
    with torch.inference_mode():
        if "Vision" in type(network).__name__:
            pixels = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8).to(network.dtype)
            return network(pixels)[0]
        return network(torch.arange(14).view(2, 7) + 30)[0]


KINDS = ["T5EncoderModel", "UMT5EncoderModel", "CLIPTextModel", "CLIPVisionModelWithProjection", "LlamaModel"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_equals_the_one_that_transformers_loads(kind, dtype, tmp_path):
    make(kind).save_pretrained(tmp_path)
    theirs = getattr(transformers, kind).from_pretrained(tmp_path, torch_dtype=dtype).eval()
    ours = load_component("transformers", kind, tmp_path, dtype=dtype)
    assert {n: p.dtype for n, p in ours.named_parameters()} == {n: p.dtype for n, p in theirs.named_parameters()}
    assert torch.equal(output(ours), output(theirs))
    assert not any(tensor.is_meta for tensor in (*ours.parameters(), *ours.buffers()))


def test_tied_weights_stay_one_tensor(tmp_path):
    make("T5EncoderModel").save_pretrained(tmp_path)
    loaded = load_component("transformers", "T5EncoderModel", tmp_path)
    assert loaded.shared.weight is loaded.encoder.embed_tokens.weight


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_clip_files_load_with_and_without_the_level_that_version_5_dropped(prefix, tmp_path):
    from safetensors.torch import load_file, save_file

    network = make("CLIPTextModel")
    network.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {prefix + name.removeprefix("text_model."): value.clone() for name, value in load_file(path).items()}
    state[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    path.unlink()
    save_file(state, path, metadata={"format": "pt"})
    assert torch.equal(output(load_component("transformers", "CLIPTextModel", tmp_path)), output(network))


def test_a_saved_encoder_comes_back_in_shards_and_as_a_variant(tmp_path):
    network = make("T5EncoderModel")
    row = save_component(network, tmp_path, max_shard_size="5KB", variant="fp16")
    assert row == ("transformers", "T5EncoderModel")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(output(load_component(*row, tmp_path, variant="fp16")), output(network))


def test_a_tokenizer_comes_back_from_its_folder(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "star": 4}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    row = save_component(words, tmp_path)
    assert load_component(*row, tmp_path)("red star moon")["input_ids"] == [3, 4, 2]


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="holds no vocabulary for its T5TokenizerFast"):
        load_component("transformers", "T5TokenizerFast", tmp_path)


def test_a_repository_can_not_bring_its_own_code(tmp_path):
    make("T5EncoderModel").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="AutoModel is not a class"):
        load_component("transformers.models.auto", "AutoModel", tmp_path)

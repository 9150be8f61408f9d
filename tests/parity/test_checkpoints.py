"""Folders written by either library load in the other."""

import warnings

import pytest
import torch

import filmstrip

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")

TINY = {
    "LTXVideoTransformer3DModel": {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "num_layers": 2,
        "caption_channels": 8,
    },
    "CogVideoXTransformer3DModel": {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "time_embed_dim": 8,
        "text_embed_dim": 8,
        "num_layers": 2,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 5,
        "max_text_seq_length": 4,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    },
}
FORMS = {
    "one file": {},
    "shards": {"max_shard_size": "10KB"},
    "variant": {"variant": "fp16"},
    "shards of a variant": {"max_shard_size": "10KB", "variant": "fp16"},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize(("writer", "reader"), [(diffusers, filmstrip), (filmstrip, diffusers)])
@pytest.mark.parametrize(("name", "config"), TINY.items(), ids=TINY)
def test_a_network_written_by_one_loads_in_the_other(name, config, writer, reader, form, tmp_path):
    written = getattr(writer, name)(**config)
    for parameter in written.parameters():
        parameter.data.normal_()
    written.save_pretrained(tmp_path, **form)
    assert ("max_shard_size" in form) == (len(list(tmp_path.glob("*.safetensors"))) > 1)
    read = getattr(reader, name).from_pretrained(tmp_path, variant=form.get("variant"))
    state = read.state_dict()
    assert state.keys() == written.state_dict().keys()
    # The reference keeps one table, of positions, in float64.
    assert all(torch.equal(state[name].float(), value.float()) for name, value in written.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_old_bin_files_load_without_running_them(tmp_path):
    written = diffusers.LTXVideoTransformer3DModel(**TINY["LTXVideoTransformer3DModel"])
    written.save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.glob("*.safetensors"))
    read = filmstrip.LTXVideoTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(read.proj_out.weight, written.proj_out.weight)

"""Folders written by either library load in the other."""

import warnings

import pytest
import torch

import filmstrip

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")

TINY = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 8,
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
def test_a_network_written_by_one_loads_in_the_other(writer, reader, form, tmp_path):
    written = writer.LTXVideoTransformer3DModel(**TINY)
    for parameter in written.parameters():
        parameter.data.normal_()
    written.save_pretrained(tmp_path, **form)
    assert ("max_shard_size" in form) == (len(list(tmp_path.glob("*.safetensors"))) > 1)
    read = reader.LTXVideoTransformer3DModel.from_pretrained(tmp_path, variant=form.get("variant"))
    state = read.state_dict()
    assert state.keys() == written.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in written.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_old_bin_files_load_without_running_them(tmp_path):
    written = diffusers.LTXVideoTransformer3DModel(**TINY)
    written.save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.glob("*.safetensors"))
    read = filmstrip.LTXVideoTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(read.proj_out.weight, written.proj_out.weight)

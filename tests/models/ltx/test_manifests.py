"""Every published checkpoint of LTX-Video fits its network, tensor for tensor.

`tests/manifests/ltx` holds, for each checkpoint, its configurations and the names and shapes of its tensors.
"""

import gzip
import json
from pathlib import Path

import pytest

from filmstrip import registry
from filmstrip.checkpoints.loading import build_empty

ROOT = Path(__file__).resolve().parents[2] / "manifests" / "ltx"
CHECKPOINTS = sorted(path.parent.name for path in ROOT.glob("*/model_index.json"))
NETWORKS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/tensors.json.gz"))
# Stored once, under the name of the table that it is tied to.
TIED = {"encoder.embed_tokens.weight"}


def read(*parts):
    return json.loads(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def published(network):
    """Names and shapes of the tensors in the files of a network."""
    with gzip.open(ROOT / network / "tensors.json.gz", "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


def build(network):
    """The network as its configuration describes it, without weights."""
    checkpoint, component = network.split("/")
    network_class = registry.resolve_class(*read(checkpoint, "model_index.json")[component])
    if network_class.__module__.startswith("transformers"):
        config = network_class.config_class.from_pretrained(ROOT / network, local_files_only=True)
        return build_empty(lambda: network_class(config))
    return build_empty(lambda: network_class.from_config(read(network, "config.json")))


def test_all_checkpoints_are_here():
    assert len(CHECKPOINTS) == 6
    assert len(NETWORKS) == 17


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_exactly_the_published_tensors(network):
    built = build(network)
    state = built.state_dict()
    assert sum(tensor.nbytes for tensor in state.values() if not tensor.is_meta) < 2**20, "weights were made in memory"
    tied = TIED & set(state)
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name not in tied} == published(network)
    parameters = dict(built.named_parameters(remove_duplicate=False))
    assert all(parameters[name] is parameters["shared.weight"] for name in tied)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_an_index_names_components_that_its_pipeline_takes(checkpoint):
    index = read(checkpoint, "model_index.json")
    pipeline_class = registry.resolve_class("diffusers", index["_class_name"])
    rows = {name: row for name, row in index.items() if not name.startswith("_")}
    assert set(rows) == set(pipeline_class.component_names())
    for library, class_name in rows.values():
        assert registry.resolve_class(library, class_name).__name__.startswith(class_name.removesuffix("Fast"))


@pytest.mark.parametrize("checkpoint", [name for name in CHECKPOINTS if (ROOT / name / "scheduler").exists()])
def test_a_scheduler_takes_its_published_settings(checkpoint):
    settings = read(checkpoint, "scheduler", "scheduler_config.json")
    scheduler_class = registry.resolve_class(*read(checkpoint, "model_index.json")["scheduler"])
    scheduler = scheduler_class.from_config(settings)
    for name, value in settings.items():
        if not name.startswith("_"):
            assert scheduler.config[name] == value, name


# What a request can count on, by the version's own documentation: pixels to a latent, frames to a latent.
@pytest.mark.parametrize("network", [name for name in NETWORKS if name.endswith("/vae")])
def test_every_autoencoder_compresses_32_pixels_and_8_frames_to_one(network):
    vae = build(network)
    assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (32, 8)

"""Every published checkpoint fits its networks, tensor for tensor.

`tests/manifests/<family>` holds, for each checkpoint, its configurations and the names and shapes of its tensors.
"""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch

from filmstrip import registry
from filmstrip.checkpoints.loading import NameRules, build_empty, known_name
from filmstrip.checkpoints.transformers_components import name_rules
from filmstrip.network import Model

ROOT = Path(__file__).resolve().parents[1] / "manifests"
CHECKPOINTS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/model_index.json"))
NETWORKS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/*/tensors.json.gz"))
COUNTS = {"ltx": (6, 17), "cogvideox": (5, 15), "stable_diffusion": (2, 14)}  # checkpoints with an index, networks
# Stored once, under the name of the table that it is tied to.
TIED = {"encoder.embed_tokens.weight"}


def read(*parts):
    return json.loads(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def class_of(network):
    """The class that its configuration names."""
    config = read(network, "config.json")
    if "_class_name" in config:
        return registry.resolve_class("diffusers", config["_class_name"])
    return registry.resolve_class("transformers", config["architectures"][0])


def stored(network):
    """Shapes of the tensors in the files of a network."""
    with gzip.open(ROOT / network / "tensors.json.gz", "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


def published(network, built):
    """Shapes of the tensors in the files of a network, under the names that they have in it."""
    rules = name_rules(built, torch.float32)
    if isinstance(built, Model):
        rules = NameRules(built.renamed_keys, built.ignored_keys)
    known = built.state_dict()
    names = {name: known_name(name, known, rules.renamed) for name in stored(network)}
    ignored = {name for name in names if any(re.search(pattern, name) for pattern in rules.ignored)}
    return {names[name] or name: shape for name, shape in stored(network).items() if names[name] or name not in ignored}


def build(network):
    """The network as its configuration describes it, without weights."""
    network_class = class_of(network)
    if network_class.__module__.startswith("transformers"):
        config = network_class.config_class.from_pretrained(ROOT / network, local_files_only=True)
        return build_empty(lambda: network_class(config))
    return build_empty(lambda: network_class.from_config(read(network, "config.json")))


@pytest.mark.parametrize("family", COUNTS)
def test_all_checkpoints_are_here(family):
    found = [sum(one.startswith(f"{family}/") for one in some) for some in (CHECKPOINTS, NETWORKS)]
    assert tuple(found) == COUNTS[family]


def test_every_family_is_counted():
    assert {path.name for path in ROOT.iterdir()} == set(COUNTS)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_exactly_the_published_tensors(network):
    built = build(network)
    state = built.state_dict()
    assert sum(tensor.nbytes for tensor in state.values() if not tensor.is_meta) < 2**20, "weights were made in memory"
    tied = TIED & set(state)
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name not in tied} == published(
        network, built
    )
    parameters = dict(built.named_parameters(remove_duplicate=False))
    assert all(parameters[name] is parameters["shared.weight"] for name in tied)


def test_three_autoencoders_have_the_old_names_of_attention():
    old = [network.split("/")[1] for network in NETWORKS if any(".query." in name for name in stored(network))]
    assert old == ["instruct-pix2pix", "stable-diffusion-v1-5", "text-to-video-ms-1.7b"]


def test_text_encoders_of_clip_have_a_level_and_some_a_buffer_that_the_classes_lack():
    encoders = [network for network in NETWORKS if class_of(network).__name__ == "CLIPTextModel"]
    assert len(encoders) == 5
    assert all(name.startswith("text_model.") for network in encoders for name in stored(network))
    with_buffer = [one.split("/")[1] for one in encoders if "text_model.embeddings.position_ids" in stored(one)]
    assert with_buffer == ["instruct-pix2pix", "stable-diffusion-v1-5", "text-to-video-ms-1.7b"]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_an_index_names_components_that_its_pipeline_takes(checkpoint):
    index = read(checkpoint, "model_index.json")
    pipeline_class = registry.resolve_class("diffusers", index["_class_name"])
    rows = {name: row for name, row in index.items() if not name.startswith("_")}
    flags = {name for name, row in rows.items() if isinstance(row, bool)}
    assert flags <= set(pipeline_class.flag_names())
    unsaid = set(pipeline_class.component_names()) - set(rows)
    assert set(rows) - flags | unsaid == set(pipeline_class.component_names())
    assert unsaid <= set(pipeline_class._optional_components)
    for name, row in rows.items():
        if name in flags or name in pipeline_class._left_out:
            continue
        library, class_name = row
        assert registry.resolve_class(library, class_name).__name__.startswith(class_name.removesuffix("Fast"))


@pytest.mark.parametrize("checkpoint", [name for name in CHECKPOINTS if (ROOT / name / "scheduler").exists()])
def test_a_scheduler_takes_its_published_settings(checkpoint):
    settings = read(checkpoint, "scheduler", "scheduler_config.json")
    scheduler_class = registry.resolve_class(*read(checkpoint, "model_index.json")["scheduler"])
    scheduler = scheduler_class.from_config(settings)
    foreign = {name for name in scheduler.config.foreign() if not name.startswith("_")}
    assert not foreign or checkpoint.startswith("stable_diffusion/")  # saved with those of other schedulers, too
    for name in set(settings) - foreign:
        if not name.startswith("_"):
            assert scheduler.config[name] == settings[name], name


# What a request can count on: pixels to a latent, and frames to a latent for those of videos.
RATIOS = {"ltx": (32, 8), "cogvideox": (8, 4), "stable_diffusion": (8, None)}


@pytest.mark.parametrize("network", [name for name in NETWORKS if name.endswith("/vae")])
def test_every_autoencoder_compresses_as_its_family_does(network):
    vae = build(network)
    ratios = vae.spatial_compression_ratio, getattr(vae, "temporal_compression_ratio", None)
    assert ratios == RATIOS[network.split("/")[0]]

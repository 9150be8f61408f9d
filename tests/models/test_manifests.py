"""Every published checkpoint fits its networks, tensor for tensor.

`manifests/` in a family's folder of tests holds, for each checkpoint that the family names, its configurations and the
names and shapes of its tensors, and in `expected.json` what is true of them all.
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

ROOT = Path(__file__).resolve().parent
CHECKPOINTS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/manifests/*/model_index.json"))
NETWORKS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/manifests/*/*/tensors.json.gz"))
EXPECTED = {
    path.parts[-3]: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("*/manifests/expected.json")
}
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


def family_of(path):
    return path.split("/")[0]


def test_the_checkpoints_that_families_name_are_here():
    said = {(one.package.rpartition(".")[2], name) for one in registry.families() for name in one.manifests}
    assert {(path.parts[-3], path.name) for path in ROOT.glob("*/manifests/*") if path.is_dir()} == said
    assert {family for family, _ in said} == set(EXPECTED)


@pytest.mark.parametrize("family", EXPECTED)
def test_all_networks_are_here(family):
    assert sum(family_of(network) == family for network in NETWORKS) == EXPECTED[family]["networks"]


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
    assert not foreign or EXPECTED[family_of(checkpoint)]["schedulers_have_settings_of_others"]
    for name in set(settings) - foreign:
        if not name.startswith("_"):
            assert scheduler.config[name] == settings[name], name


@pytest.mark.parametrize("network", [name for name in NETWORKS if name.endswith("/vae")])
def test_every_autoencoder_compresses_as_its_family_does(network):
    vae, expected = build(network), EXPECTED[family_of(network)]
    assert vae.spatial_compression_ratio == expected["pixels_to_a_latent"]
    assert getattr(vae, "temporal_compression_ratio", None) == expected["frames_to_a_latent"]

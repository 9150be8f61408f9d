"""Every published checkpoint with Stable Diffusion's networks fits them, tensor for tensor.

`tests/manifests/stable_diffusion` holds, for each checkpoint, its configurations and the names and shapes of its
tensors, as the files call them.
"""

import gzip
import json
import re
from pathlib import Path

import pytest

from filmstrip.checkpoints.loading import build_empty
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL

ROOT = Path(__file__).resolve().parents[2] / "manifests" / "stable_diffusion"
CLASSES = {"vae": AutoencoderKL}
NETWORKS = sorted(
    str(path.parent.relative_to(ROOT)) for component in CLASSES for path in ROOT.glob(f"*/{component}/tensors.json.gz")
)


def published(network):
    """Names and shapes of the tensors in the files of a network."""
    with gzip.open(ROOT / network / "tensors.json.gz", "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


def renamed(name, rules):
    """The name that a tensor of a file has in the network."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def network_class(network):
    return CLASSES[network.split("/")[1]]


def test_all_autoencoders_are_here():
    assert len([network for network in NETWORKS if network.endswith("/vae")]) == 5


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_exactly_the_published_tensors(network):
    config = json.loads((ROOT / network / "config.json").read_text())
    state = build_empty(lambda: network_class(network).from_config(config)).state_dict()
    assert all(tensor.is_meta for tensor in state.values()), "weights were made in memory"
    tensors = {renamed(name, network_class(network).renamed_keys): size for name, size in published(network).items()}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == tensors


def test_three_files_have_the_old_names():
    old = [network for network in NETWORKS if any(".query." in name for name in published(network))]
    assert [network.split("/")[0] for network in old] == [
        "instruct-pix2pix",
        "stable-diffusion-v1-5",
        "text-to-video-ms-1.7b",
    ]

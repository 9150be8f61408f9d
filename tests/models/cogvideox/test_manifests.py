"""Every published checkpoint of CogVideoX fits its networks, tensor for tensor.

`tests/manifests/cogvideox` holds, for each checkpoint, its configurations and the names and shapes of its tensors.
"""

import gzip
import json
from pathlib import Path

import pytest
from transformers import T5EncoderModel

from filmstrip.checkpoints.loading import build_empty
from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX
from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel

ROOT = Path(__file__).resolve().parents[2] / "manifests" / "cogvideox"
CLASSES = {
    "transformer": CogVideoXTransformer3DModel,
    "vae": AutoencoderKLCogVideoX,
    "text_encoder": T5EncoderModel,
}
NETWORKS = sorted(
    str(path.parent.relative_to(ROOT)) for component in CLASSES for path in ROOT.glob(f"*/{component}/tensors.json.gz")
)
# Stored once, under the name of the table that it is tied to.
TIED = {"encoder.embed_tokens.weight"}


def published(network):
    """Names and shapes of the tensors in the files of a network."""
    with gzip.open(ROOT / network / "tensors.json.gz", "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


def build(network):
    """The network as its configuration describes it, without weights."""
    network_class = CLASSES[network.split("/")[1]]
    if network_class is T5EncoderModel:
        config = network_class.config_class.from_pretrained(ROOT / network, local_files_only=True)
        return build_empty(lambda: network_class(config))
    return build_empty(lambda: network_class.from_config(json.loads((ROOT / network / "config.json").read_text())))


def test_all_checkpoints_are_here():
    assert len({network.split("/")[0] for network in NETWORKS}) == 5
    assert len(NETWORKS) == 5 * len(CLASSES)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_exactly_the_published_tensors(network):
    state = build(network).state_dict()
    assert sum(tensor.nbytes for tensor in state.values() if not tensor.is_meta) < 2**20, "weights were made in memory"
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name not in TIED} == published(network)

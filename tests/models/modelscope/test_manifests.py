"""What the published files of ModelScope have of their own."""

from math import prod

from filmstrip.models.modelscope.unet import UNet3DConditionModel
from tests.models.test_manifests import NETWORKS, class_of, family_of, stored

OURS = [network for network in NETWORKS if family_of(network) == "modelscope"]


def names_of(kind):
    return {network.split("/")[2]: stored(network) for network in OURS if class_of(network).__name__ == kind}


def test_the_unet_of_all_three_is_the_same_and_has_the_published_number_of_parameters():
    unets = names_of(UNet3DConditionModel.__name__)
    assert set(unets) == {"text-to-video-ms-1.7b", "zeroscope_v2_576w", "zeroscope_v2_xl"}
    first, *others = unets.values()
    assert all(other == first for other in others)
    assert sum(map(prod, first.values())) == 1_411_233_860


def test_only_the_first_has_the_old_names_of_attention_and_a_buffer_of_positions():
    with_old_names = [
        name for name, tensors in names_of("AutoencoderKL").items() if any(".query." in n for n in tensors)
    ]
    encoders = names_of("CLIPTextModel")
    with_buffer = [name for name, tensors in encoders.items() if "text_model.embeddings.position_ids" in tensors]
    assert with_old_names == with_buffer == ["text-to-video-ms-1.7b"]

"""What the published files of Stable Diffusion have of their own."""

from tests.models.test_manifests import NETWORKS, class_of, family_of, stored

OURS = [network for network in NETWORKS if family_of(network) == "stable_diffusion"]


def test_two_autoencoders_have_the_old_names_of_attention():
    old = [network.split("/")[2] for network in OURS if any(".query." in name for name in stored(network))]
    assert old == ["instruct-pix2pix", "stable-diffusion-v1-5"]


def test_text_encoders_of_clip_have_a_level_and_some_a_buffer_that_the_classes_lack():
    encoders = [network for network in OURS if class_of(network).__name__ == "CLIPTextModel"]
    assert len(encoders) == 2
    assert all(name.startswith("text_model.") for network in encoders for name in stored(network))
    with_buffer = [one.split("/")[2] for one in encoders if "text_model.embeddings.position_ids" in stored(one)]
    assert with_buffer == ["instruct-pix2pix", "stable-diffusion-v1-5"]

"""What the published files of I2VGen-XL have of their own."""

from math import prod

from filmstrip.models.i2vgen_xl.unet import I2VGenXLUNet
from tests.models.test_manifests import NETWORKS, class_of, family_of, stored

OURS = {network.split("/")[-1]: network for network in NETWORKS if family_of(network) == "i2vgen_xl"}


def test_the_unet_has_the_number_of_parameters_of_the_published_one():
    assert class_of(OURS["unet"]) is I2VGenXLUNet
    assert sum(map(prod, stored(OURS["unet"]).values())) == 1_420_469_224


def test_both_encoders_have_a_level_of_names_in_their_files():
    assert {name.partition(".")[0] for name in stored(OURS["text_encoder"])} == {"text_model"}
    assert {name.partition(".")[0] for name in stored(OURS["image_encoder"])} == {"vision_model", "visual_projection"}

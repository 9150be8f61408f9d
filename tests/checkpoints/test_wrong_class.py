"""A checkpoint of another family is refused before its weights are read, with the class that fits."""

import pytest

import filmstrip
from tests.cli.tiny_checkpoint import tiny_pipeline


@pytest.mark.parametrize("kind", ["CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "TextToVideoZeroPipeline"])
def test_the_class_that_fits_is_named(tmp_path, kind):
    tiny_pipeline().save_pretrained(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError, match=f"is a checkpoint of LTXPipeline, which {kind} can't be; load LTXPipeline"):
        getattr(filmstrip, kind).from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"])
def test_a_class_of_the_family_loads(tmp_path, kind):
    tiny_pipeline().save_pretrained(tmp_path)
    assert type(getattr(filmstrip, kind).from_pretrained(tmp_path)).__name__ == kind

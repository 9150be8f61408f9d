"""What a call returns, in every form."""

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip.generation.arguments import OUTPUT_TYPES
from tests.contract.runs import as_array, call, frames_of, over_all, request, video


@over_all
def test_output_types_agree(case):
    frames = {output_type: frames_of(call(case, output_type=output_type)) for output_type in OUTPUT_TYPES}
    batch, length, _, height, width = frames["pt"].shape
    assert isinstance(frames["pt"], torch.Tensor) and frames["pt"].dtype == torch.float32
    assert isinstance(frames["np"], np.ndarray) and frames["np"].dtype == np.float32
    assert isinstance(frames["uint8"], np.ndarray) and frames["uint8"].dtype == np.uint8
    assert isinstance(frames["pil"], list) and isinstance(frames["pil"][0], list)
    assert isinstance(frames["pil"][0][0], Image.Image) and frames["pil"][0][0].size == (width, height)
    for output_type in ("np", "uint8"):
        assert frames[output_type].shape == (batch, length, height, width, 3)
    assert frames["pt"].min() >= 0 and frames["pt"].max() <= 1

    np.testing.assert_allclose(as_array(frames["np"]), as_array(frames["pt"]), atol=1e-6)
    np.testing.assert_allclose(as_array(frames["uint8"]), as_array(frames["pt"]), atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(as_array(frames["uint8"]), as_array(frames["pil"]))
    assert as_array(frames["pt"]).std() > 0.01, "a flat picture would agree with itself in every form"

    assert isinstance(frames["latent"], torch.Tensor) and frames["latent"].is_floating_point()
    assert len(frames["latent"]) == batch and bool(frames["latent"].isfinite().all())


@over_all
def test_pictures_are_the_default(case):
    assert case.parameters["output_type"].default == case.output_type
    assert case.parameters["return_dict"].default is True


@over_all
def test_the_result_can_be_unpacked(case):
    output = call(case)
    unpacked = call(case, return_dict=False)
    assert isinstance(unpacked, tuple) and len(unpacked) == 1
    assert torch.equal(unpacked[0], getattr(output, case.field))


@over_all
def test_the_result_can_be_indexed(case):
    output = call(case)
    frames = getattr(output, case.field)
    assert output[0] is frames
    assert output[case.field] is frames
    assert torch.equal(output[0][0], frames[0])
    (only,) = output.to_tuple()
    assert only is frames


@over_all
def test_an_unknown_output_type_is_refused_with_a_suggestion(case):
    with pytest.raises(ValueError, match=r"output_type must be one of .* Did you mean 'uint8'"):
        request(case, output_type="uint")


@over_all
def test_a_request_can_not_be_changed(case):
    made = request(case)
    with pytest.raises(AttributeError):
        made.num_videos = 2
    with pytest.raises(AttributeError):
        made.size.num_frames = 2
    with pytest.raises(AttributeError):
        made.arguments.output_type = "np"


@over_all
def test_nothing_keeps_track_of_gradients(case):
    assert not video(case).requires_grad
    assert not frames_of(call(case, output_type="latent")).requires_grad

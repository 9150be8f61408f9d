"""A pipeline's index says which classes are loaded, and nothing else is."""

import json

import pytest
import torch
from torch import nn

from filmstrip import registry
from filmstrip.checkpoints import (
    CheckpointError,
    component,
    inspect_checkpoint,
    load_component,
    read_model_index,
    save_component,
    write_model_index,
)
from filmstrip.checkpoints.files import check_variant
from filmstrip.configuration import Configured
from filmstrip.network import Model


class SmallNet(Model):
    def __init__(self, dim: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, dim)


class SmallScheduler(Configured):
    config_name = "scheduler_config.json"

    def __init__(self, shift: float = 1.0) -> None:
        self.shift = shift


@pytest.fixture
def known(monkeypatch):
    classes = {"SmallNet": SmallNet, "SmallScheduler": SmallScheduler, "NoComponent": dict}
    for name in classes:
        monkeypatch.setitem(registry.PUBLIC.own, name, __name__)
    monkeypatch.setattr(component, "resolve_class", lambda library, name: classes[name])


@pytest.fixture
def checkpoint(known, tmp_path):
    parts = {"net": SmallNet(5), "scheduler": SmallScheduler(shift=2.5)}
    rows = {name: save_component(part, tmp_path / name) for name, part in parts.items()}
    write_model_index(tmp_path, "LTXPipeline", rows | {"safety_checker": None}, expand=True)
    return tmp_path, parts


def test_an_index_lists_components_absences_and_settings(checkpoint):
    index = read_model_index(checkpoint[0])
    assert index.pipeline_class == "LTXPipeline"
    assert index.components == {"net": ("diffusers", "SmallNet"), "scheduler": ("diffusers", "SmallScheduler")}
    assert index.absent == ("safety_checker",)
    assert index.settings == {"expand": True}


def test_components_come_back_from_their_folders(checkpoint):
    folder, parts = checkpoint
    loaded = {
        name: load_component(*row, folder / name, dtype=torch.bfloat16)
        for name, row in read_model_index(folder).components.items()
    }
    assert torch.equal(loaded["net"].layer.weight, parts["net"].layer.weight.bfloat16())
    assert loaded["scheduler"].shift == 2.5


@pytest.mark.parametrize("library", ["diffusers", "filmstrip", "mindone.diffusers", "mindone.diffusers.models", "ltx"])
def test_names_of_all_writers_are_understood(library):
    registry.check_class(library, "LTXVideoTransformer3DModel")


@pytest.mark.parametrize(
    ("library", "class_name"),
    [("os", "system"), ("diffusers", "Imaginary"), ("transformers", "AutoModel"), ("diffusers_evil", "LTXPipeline")],
)
def test_a_class_outside_the_tables_is_refused_by_name(tmp_path, library, class_name):
    (tmp_path / "model_index.json").write_text(json.dumps({"vae": [library, class_name]}))
    with pytest.raises(CheckpointError, match=f"names the class {class_name} of the library '{library}' for vae"):
        read_model_index(tmp_path)


def test_a_component_can_not_lie_outside_the_checkpoint(tmp_path):
    (tmp_path / "model_index.json").write_text('{"../vae": ["diffusers", "AutoencoderKLLTXVideo"]}')
    with pytest.raises(CheckpointError, match="not the name of a folder"):
        read_model_index(tmp_path)


@pytest.mark.parametrize(("content", "sentence"), [("{", "not valid JSON"), ("[]", "must hold one JSON object")])
def test_a_damaged_index_is_named(tmp_path, content, sentence):
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(CheckpointError, match=sentence):
        read_model_index(tmp_path)


def test_a_missing_component_folder_is_named(checkpoint):
    with pytest.raises(CheckpointError, match=r"no folder .*gone, which its SmallNet"):
        load_component("diffusers", "SmallNet", checkpoint[0] / "gone")


def test_a_public_name_that_is_no_component_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="NoComponent is not a class of components"):
        load_component("diffusers", "NoComponent", checkpoint[0] / "net")


def test_a_checkpoint_is_described_from_headers_alone(checkpoint, monkeypatch):
    from filmstrip.checkpoints.tensors import SafetensorsFile

    monkeypatch.setattr(SafetensorsFile, "load", lambda *_: pytest.fail("a weight was read"))
    folder, _ = checkpoint
    (folder / "README.md").write_text("---\ntags: [video]\nlicense: apache-2.0\n---\n")
    summary = inspect_checkpoint(folder)
    assert (summary.pipeline_class, summary.family, summary.licence) == ("LTXPipeline", "LTX-Video", "apache-2.0")
    net, scheduler = summary.components
    assert (net.class_name, net.parameters, net.bytes_per_dtype) == ("SmallNet", 30, {"float32": 120})
    assert [path.name for path in net.files] == ["diffusion_pytorch_model.safetensors"]
    assert (scheduler.parameters, scheduler.files) == (0, ())
    assert summary.nbytes == 120


def test_a_single_component_is_described_too(checkpoint):
    (alone,) = inspect_checkpoint(checkpoint[0] / "net").components
    assert (alone.class_name, alone.parameters) == ("SmallNet", 30)


def test_a_network_asked_of_a_whole_pipeline_is_told_its_folder(checkpoint):
    with pytest.raises(CheckpointError, match="whole pipeline; pass subfolder='net'"):
        SmallNet.from_pretrained(checkpoint[0])
    assert torch.equal(
        SmallNet.from_pretrained(checkpoint[0], subfolder="net").layer.bias, checkpoint[1]["net"].layer.bias
    )


def test_a_variant_that_no_component_has_is_an_error(checkpoint):
    folder, parts = checkpoint
    with pytest.raises(CheckpointError, match=r"no component .* variant 'fp16'; it has no variant at all"):
        check_variant(folder, parts, "fp16")
    parts["net"].save_pretrained(folder / "net", variant="fp16")
    check_variant(folder, parts, "fp16")
    check_variant(folder, parts, None)
    assert load_component("diffusers", "SmallScheduler", folder / "scheduler", variant="fp16").shift == 2.5

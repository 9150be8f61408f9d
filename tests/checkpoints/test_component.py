"""A pipeline's index says which classes are loaded, and nothing else is."""

import json

import pytest
import torch
from torch import nn

from filmstrip import StableDiffusionControlNetPipeline, StableDiffusionPipeline, registry
from filmstrip.assembly import Pipeline
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
from tests.tiny_stable_diffusion import controlnet, parts


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
    sentence = f"names the class {class_name} of the library '{library}' for vae"
    (tmp_path / "model_index.json").write_text(json.dumps({"vae": [library, class_name]}))
    with pytest.raises(CheckpointError, match=sentence):
        inspect_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "LTXPipeline", "vae": [library, class_name]}))
    assert read_model_index(tmp_path).components == {}
    for make in (Pipeline.outline, Pipeline.from_pretrained):
        with pytest.raises(CheckpointError, match=sentence):
            make(tmp_path)


def test_a_part_that_is_not_loaded_may_have_any_class(tmp_path):
    pipeline = StableDiffusionPipeline(**parts())
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    rows = {
        "feature_extractor": ["transformers", "OfAnotherCentury"],
        "safety_checker": ["os", "system"],
        "evil": ["os", "system"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index | rows))
    assert type(Pipeline.from_pretrained(tmp_path)) is type(pipeline)
    assert {one.name for one in inspect_checkpoint(tmp_path).components} == {
        "scheduler",
        "text_encoder",
        "tokenizer",
        "unet",
        "vae",
    }


@pytest.mark.parametrize("table", [registry.TRANSFORMERS_NETWORKS, registry.TRANSFORMERS_PROCESSORS])
def test_names_that_the_installed_transformers_writes_are_known(table):
    import transformers

    for name in table:
        written = getattr(transformers, name, None)  # an older version has fewer, a newer one calls them otherwise
        if written is not None:
            registry.check_class("transformers", written.__name__)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"vae": [3, {}]}, "must name a library and a class for vae"),
        ({"_class_name": ["LTXPipeline"]}, "must have a text for _class_name"),
        ({"_defaults": [1]}, "must have an object for _defaults"),
    ],
)
def test_an_index_of_other_types_is_named(tmp_path, content, sentence):
    (tmp_path / "model_index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"model_index\.json {sentence}"):
        read_model_index(tmp_path)


class Unsavable:
    pass


def test_a_compiled_network_is_saved_as_what_is_inside(known, tmp_path):
    network = SmallNet(5)
    row = save_component(torch.compile(network), tmp_path / "net")
    assert row == ("diffusers", "SmallNet")
    assert torch.equal(load_component(*row, tmp_path / "net").layer.weight, network.layer.weight)
    network.layer = torch.compile(network.layer)
    network.save_pretrained(tmp_path / "part")
    assert torch.equal(load_component(*row, tmp_path / "part").layer.weight, network.layer.weight)


def test_a_pipeline_with_compiled_networks_is_saved_and_controls(tmp_path):
    pipeline = StableDiffusionControlNetPipeline(**parts(), controlnet=controlnet(1))
    for name in ("unet", "controlnet", "vae"):
        setattr(pipeline, name, torch.compile(getattr(pipeline, name)))
    pipeline.check_components()
    pipeline.save_pretrained(tmp_path)
    loaded = type(pipeline).from_pretrained(tmp_path)
    assert torch.equal(next(loaded.controlnet.parameters()), next(pipeline.controlnet.parameters()))


def test_nothing_is_written_before_all_is_checked(tmp_path):
    pipeline = StableDiffusionPipeline(**parts())
    pipeline.components["scheduler"] = Unsavable()
    with pytest.raises(CheckpointError, match="a Unsavable can't be saved"):
        pipeline.save_pretrained(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="a size must be"):
        StableDiffusionPipeline(**parts()).save_pretrained(tmp_path / "new", max_shard_size="many")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("was_there", [False, True])
def test_a_save_that_fails_leaves_no_half_folder(tmp_path, monkeypatch, was_there):
    folder = tmp_path / "new" / "folder"
    if was_there:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    monkeypatch.setattr("filmstrip.assembly.pipeline.write_model_index", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        StableDiffusionPipeline(**parts()).save_pretrained(folder)
    assert folder.exists() == (tmp_path / "new").exists() == was_there
    assert not was_there or (folder / "notes.txt").exists()


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

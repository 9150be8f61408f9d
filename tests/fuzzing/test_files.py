"""No file, whatever stands in it, ends in a traceback, hangs, runs a program or is taken for what it is not.

A run of the suite tries some thousands of them, `make fuzz` many more.
"""

import io
import json
import pickle
import shutil
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from filmstrip import UNet2DConditionModel, registry
from filmstrip.assembly import Pipeline
from filmstrip.checkpoints import inspect_checkpoint, load_component
from filmstrip.checkpoints.component import outline_component
from filmstrip.checkpoints.files import open_weights
from filmstrip.generation.resolve import Resolved
from filmstrip.jobs.records import job_of
from filmstrip.media import read_metadata
from filmstrip.randomness import NoiseState
from filmstrip.resume import file as kept
from tests import tiny
from tests.cli.tiny_checkpoint import tiny_pipeline
from tests.fuzzing.mutations import Figures, changed, damaged, judged, tries

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzing") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    torch.manual_seed(0)
    UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET).save_config(folder / "unet")
    return folder


@pytest.fixture
def folder(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "tiny")


CONFIGS = {
    "transformer": ("LTXVideoTransformer3DModel", "config.json"),
    "vae": ("AutoencoderKLLTXVideo", "config.json"),
    "unet": ("UNet2DConditionModel", "config.json"),
    "scheduler": ("FlowMatchEulerDiscreteScheduler", "scheduler_config.json"),
}
SCHEDULERS = sorted(name for name in registry.PUBLIC if name.endswith("Scheduler"))


@pytest.mark.parametrize("name", CONFIGS)
def test_component_configs(folder, name):
    class_name, file = CONFIGS[name]
    path = folder / name / file
    whole = json.loads(path.read_text())

    figures = Figures()

    @tries(200)
    @given(changed(whole))
    def check(content):
        path.write_text(json.dumps(content))
        with judged(figures, file, about=content):
            built = outline_component("diffusers", class_name, path.parent)
            for entry, value in built.config.items():
                if entry in content:
                    assert value == content[entry], "it was built otherwise than the file says"

    check()
    figures.settle()


def test_settings_of_every_scheduler(folder):
    path = folder / "scheduler" / "scheduler_config.json"

    figures = Figures()

    @tries(200)
    @given(st.data(), st.sampled_from(SCHEDULERS))
    def check(data, class_name):
        whole = json.loads(registry.resolve_class("filmstrip", class_name)().config_text())
        path.write_text(json.dumps(data.draw(changed(whole))))
        with judged(figures, "scheduler_config.json", about=class_name):
            outline_component("diffusers", class_name, path.parent)

    check()
    figures.settle()


def test_configs_of_encoders(folder):
    path = folder / "text_encoder" / "config.json"
    whole = json.loads(path.read_text())

    figures = Figures()

    @tries(150)
    @given(changed(whole))
    def check(content):
        path.write_text(json.dumps(content))
        with judged(figures, "config.json", about=content):
            outline_component("transformers", "T5EncoderModel", path.parent)

    check()
    figures.settle()


@pytest.mark.parametrize("name", ["model_index.json", "scheduler/scheduler_config.json", "transformer/config.json"])
def test_bytes_of_json_files(folder, name):
    path = folder / name
    whole = path.read_bytes()

    figures = Figures()

    @tries(150)
    @given(damaged(whole))
    def check(content):
        path.write_bytes(content)
        with judged(figures, name.rpartition("/")[2], folder.name, about=content):
            Pipeline.outline(folder)

    check()
    figures.settle()


def test_indexes_of_pipelines(folder):
    path = folder / "model_index.json"
    whole = json.loads(path.read_text())

    figures = Figures()

    @tries(200)
    @given(changed(whole))
    def check(content):
        path.write_text(json.dumps(content))
        for read in (Pipeline.outline, inspect_checkpoint):
            with judged(figures, "model_index.json", str(folder), about=content):
                read(folder)

    check()
    figures.settle()


STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(0, 2)}


def test_indexes_of_shards(tmp_path):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file({"a": STATE["a"]}, tmp_path / names[0])
    save_file({"b": STATE["b"]}, tmp_path / names[1])
    path = tmp_path / "model.safetensors.index.json"
    whole = {"metadata": {"total_size": 32}, "weight_map": {"a": names[0], "b": names[1]}}

    figures = Figures()

    @tries(200)
    @given(changed(whole))
    def check(content):
        path.write_text(json.dumps(content))
        with judged(figures, path.name, str(tmp_path), about=content):
            weights = open_weights(tmp_path)
            assert {*weights} == {*content["weight_map"]} <= {"a", "b"}

    check()
    figures.settle()


def test_headers_of_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, values = json.loads(content[8 : 8 + length]), content[8 + length :]

    figures = Figures()

    @tries(220)
    @given(changed(header))
    def check(header):
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + values)
        with judged(figures, path.name, about=header):
            weights = open_weights(tmp_path)
            for name in weights:
                weights.load(name, torch.float32, CPU)

    check()
    figures.settle()


def test_bytes_of_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)

    figures = Figures()

    @tries(220)
    @given(damaged(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        with judged(figures, path.name, about=content):
            weights = open_weights(tmp_path)
            for name in weights:
                weights.load(name, torch.float32, CPU)

    check()
    figures.settle()


class Code:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def bins():
    for state in (STATE, {"a": Code()}, [STATE], {"a": STATE["a"].to_sparse()}):
        for is_new in (True, False):
            buffer = io.BytesIO()
            torch.save(state, buffer, _use_new_zipfile_serialization=is_new)
            yield buffer.getvalue()
    yield pickle.dumps(Code())


def test_bytes_of_bin_files(tmp_path):
    path = tmp_path / "pytorch_model.bin"

    figures = Figures()

    @tries(220)
    @given(st.sampled_from([*bins()]).flatmap(damaged))
    def check(content):
        path.unlink(missing_ok=True)  # an earlier one may still be mapped
        path.write_bytes(content)
        with judged(figures, path.name, about=content):
            weights = open_weights(tmp_path)
            for name in weights:
                weights.load(name, torch.float32, CPU)

    check()
    figures.settle()


KEPT = {
    "latents": torch.zeros(2, 3),
    "size": Resolved(64, 96, 9, 9, 25.0, (2, 8, 12), 192, adjustments=("cut",)),
    "noise": NoiseState("cpu", (torch.zeros(2),)),
    "type": torch.bfloat16,
    "pair": (1, {"a": None}),
}


def test_bytes_of_kept_files(tmp_path):
    path = tmp_path / "kept.latents.safetensors"
    kept.write(path, KEPT)
    whole = path.read_bytes()

    figures = Figures()

    @tries(220)
    @given(damaged(whole))
    def check(content):
        path.write_bytes(content)
        with judged(figures, path.name, about=content):
            kept.read(path)
            assert content == whole, "damage was not found"

    check()
    figures.settle()


def test_kept_files_that_are_made_by_hand(tmp_path):
    path = tmp_path / "kept.latents.safetensors"
    tensors = {}
    value = kept._packed(KEPT, "", tensors)

    figures = Figures()

    @tries(220)
    @given(changed(value))
    def check(value):
        header = kept.sealed({"format": kept.FORMAT, "of": "", "value": value}, tensors) if _is_json(value) else "{"
        save_file(tensors, path, metadata={"filmstrip": header})
        with judged(figures, path.name, about=value):
            kept.read(path)

    check()
    figures.settle()


def _is_json(value):
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


RECORD = {
    "prompt": "a star", "negative_prompt": None, "seed": 3, "model": "shapes", "pipeline": "LTXPipeline",
    "settings": {"num_frames": 9, "guidance_scale": 3.0}, "fps": 8.0, "scheduler": None, "device": "cpu",
    "inputs": {"image": {"source": "a.png", "pixels_sha256": "00", "num_frames": 2}}, "dtype": "auto",
    "components": {"vae": "org/name"}, "memory": "8GB", "versions": {"torch": "2"},
    "_file": {"width": 64, "height": 64, "fps": "8"},
}  # fmt: skip


def test_records_of_videos(tmp_path):
    path = tmp_path / "video.json"

    figures = Figures()

    @tries(220)
    @given(changed(RECORD))
    def check(content):
        path.write_text(json.dumps(content))
        with judged(figures, path.name, about=content):
            job_of(read_metadata(path), path)

    check()
    figures.settle()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_files_of_tokenizers(folder, name):
    path = folder / "tokenizer" / name
    class_name = json.loads((folder / "model_index.json").read_text())["tokenizer"][1]
    whole = path.read_bytes()

    figures = Figures()

    @tries(100)
    @given(st.one_of(changed(json.loads(whole)).map(lambda one: json.dumps(one).encode()), damaged(whole)))
    def check(content):
        path.write_bytes(content)
        with judged(figures, name, str(path.parent), about=content):
            load_component("transformers", class_name, path.parent)

    check()
    figures.settle()


DIVIDED = {
    "UNet2DConditionModel": tiny.STABLE_DIFFUSION_UNET,
    "AutoencoderKL": tiny.STABLE_DIFFUSION_AUTOENCODER,
    "AutoencoderKLCogVideoX": tiny.COGVIDEOX_AUTOENCODER,
    "CogVideoXTransformer3DModel": tiny.COGVIDEOX_TRANSFORMER,
}


@pytest.mark.parametrize("class_name", DIVIDED)
def test_sizes_that_do_not_fit_together_are_said_with_their_entries(tmp_path, class_name):
    """A library's sentence, such as that of channels and groups, has words of its own for them."""
    whole = json.loads(registry.resolve_class("filmstrip", class_name)(**DIVIDED[class_name]).config_text())
    refused = 0
    for name, value in whole.items():
        if type(value) is int:
            others = [3, 7, value + 1]
        elif isinstance(value, list) and value and all(type(one) is int for one in value):
            others = [[one + 1 for one in value], [3, *value[1:]], value[:-1]]
        else:
            continue
        for other in others:
            (tmp_path / "config.json").write_text(json.dumps({**whole, name: other}))
            try:
                outline_component("diffusers", class_name, tmp_path)
            except ValueError as error:
                refused += 1
                said = str(error).partition("config.json")[2]
                assert any(entry in said for entry in whole), said
    assert refused

"""The finished model as an ordinary checkpoint folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from training.shapes import clips
from training.shapes.tokenizer import lower_case_twins, save_tokenizer
from training.shapes.training import Trainee, averaged

DEFAULTS = {
    "height": clips.SIZE,
    "width": clips.SIZE,
    "num_frames": clips.NUM_FRAMES,
    "frame_rate": clips.FRAME_RATE,
    "num_inference_steps": 20,
    "guidance_scale": 2.5,
}
SCHEDULER = {"num_train_timesteps": 1000, "shift": 2.0, "use_dynamic_shifting": False}
COMPONENTS = {
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
    "text_encoder": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "T5TokenizerFast"),
    "transformer": ("diffusers", "LTXVideoTransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLLTXVideo"),
}


def save_checkpoint(folder: Path, autoencoder: AutoencoderKLLTXVideo, trainee: Trainee) -> None:
    """Write the averaged weights, in bfloat16, and all that pipelines need besides them."""
    folder.mkdir(parents=True, exist_ok=True)
    networks: dict[str, Any] = {
        name: averaged(copy.deepcopy(network), trainee.averages[name]) for name, network in trainee.networks.items()
    }
    embeddings = networks["text_encoder"].shared.weight
    embeddings.data.copy_(embeddings[torch.tensor(lower_case_twins())])
    for name, network in {**networks, "vae": autoencoder}.items():
        network.to(torch.bfloat16).save_pretrained(folder / name)
    save_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir(exist_ok=True)
    _write_json(
        folder / "scheduler" / "scheduler_config.json", {"_class_name": COMPONENTS["scheduler"][1], **SCHEDULER}
    )
    index = {"_class_name": "LTXPipeline", "_defaults": DEFAULTS, **COMPONENTS}
    _write_json(folder / "model_index.json", index)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")

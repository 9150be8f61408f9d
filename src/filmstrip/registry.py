"""The tables of public names: what `filmstrip` exports, and which model families there are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_LTX = "filmstrip.models.ltx"
_COGVIDEOX = "filmstrip.models.cogvideox"
_MEDIA = "filmstrip.media"
_SCHEDULERS = "filmstrip.schedulers"
_STABLE_DIFFUSION = "filmstrip.models.stable_diffusion"
_TEXT2VIDEO_ZERO = "filmstrip.models.text2video_zero"

PUBLIC: dict[str, str] = {
    "AutoencoderKL": _STABLE_DIFFUSION,
    "AutoencoderKLCogVideoX": _COGVIDEOX,
    "AutoencoderKLLTXVideo": _LTX,
    "CogVideoXDDIMScheduler": _COGVIDEOX,
    "CogVideoXDPMScheduler": _COGVIDEOX,
    "CogVideoXFunControlPipeline": _COGVIDEOX,
    "CogVideoXImageToVideoPipeline": _COGVIDEOX,
    "CogVideoXPipeline": _COGVIDEOX,
    "CogVideoXTransformer3DModel": _COGVIDEOX,
    "CogVideoXVideoToVideoPipeline": _COGVIDEOX,
    "ControlNetModel": _STABLE_DIFFUSION,
    "CrossFrameAttnProcessor": _TEXT2VIDEO_ZERO,
    "DDIMInverseScheduler": _SCHEDULERS,
    "DDIMScheduler": _SCHEDULERS,
    "DDPMScheduler": _SCHEDULERS,
    "DEISMultistepScheduler": _SCHEDULERS,
    "DPMSolverMultistepScheduler": _SCHEDULERS,
    "DPMSolverSinglestepScheduler": _SCHEDULERS,
    "DiffusionPipeline": "filmstrip.assembly",
    "EulerAncestralDiscreteScheduler": _SCHEDULERS,
    "EulerDiscreteScheduler": _SCHEDULERS,
    "FlowMatchEulerDiscreteScheduler": _SCHEDULERS,
    "HeunDiscreteScheduler": _SCHEDULERS,
    "KDPM2AncestralDiscreteScheduler": _SCHEDULERS,
    "KDPM2DiscreteScheduler": _SCHEDULERS,
    "LCMScheduler": _SCHEDULERS,
    "LMSDiscreteScheduler": _SCHEDULERS,
    "LTXConditionPipeline": _LTX,
    "LTXImageToVideoPipeline": _LTX,
    "LTXLatentUpsamplePipeline": _LTX,
    "LTXLatentUpsamplerModel": _LTX,
    "LTXPipeline": _LTX,
    "LTXVideoCondition": _LTX,
    "LTXVideoTransformer3DModel": _LTX,
    "MultiControlNetModel": _STABLE_DIFFUSION,
    "PNDMScheduler": _SCHEDULERS,
    "Pipeline": "filmstrip.assembly",
    "StableDiffusionControlNetPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInstructPix2PixPipeline": _STABLE_DIFFUSION,
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "TextToVideoZeroControlNetPipeline": _TEXT2VIDEO_ZERO,
    "TextToVideoZeroInstructPix2PixPipeline": _TEXT2VIDEO_ZERO,
    "TextToVideoZeroPipeline": _TEXT2VIDEO_ZERO,
    "TextToVideoZeroSDXLPipeline": _TEXT2VIDEO_ZERO,
    "UNet2DConditionModel": _STABLE_DIFFUSION,
    "UniPCMultistepScheduler": _SCHEDULERS,
    "canny_edges": _MEDIA,
    "export_to_gif": _MEDIA,
    "export_to_video": _MEDIA,
    "load_image": _MEDIA,
    "load_video": _MEDIA,
    "read_metadata": _MEDIA,
}
"""Public name to the module that defines it."""

BUILTIN_MODELS: dict[str, str] = {"shapes": "filmstrip.models.shapes"}
"""Model that comes with the package to the package folder whose `weights/` holds its checkpoint."""

TRANSFORMERS_NETWORKS = frozenset(
    {
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "LlamaModel",
        "LlavaForConditionalGeneration",
        "T5EncoderModel",
        "UMT5EncoderModel",
    }
)
"""Text and image encoders that checkpoints take from transformers."""

TRANSFORMERS_PROCESSORS = frozenset(
    {
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "PreTrainedTokenizerFast",
        "T5Tokenizer",
        "T5TokenizerFast",
        "TokenizersBackend",
    }
)
"""Tokenizers and image processors, which hold no weights."""

# Checkpoints written by the reference name its packages; a class that lives beside a pipeline is filed under the
# pipeline's folder there.
_OUR_LIBRARIES = frozenset({"diffusers", "filmstrip", "mindone.diffusers", "ltx"})
_FILED_WITH_A_PIPELINE = {"LTXLatentUpsamplerModel": "ltx"}
_TRANSFORMERS_LIBRARIES = frozenset({"transformers", "mindone.transformers"})


@dataclass(frozen=True)
class Family:
    """One row of `filmstrip models`."""

    name: str
    title: str
    pipelines: dict[str, str]
    """Task ("text-to-video", ...) to the public name of the pipeline class that serves it."""
    checkpoints: tuple[str, ...]
    """Hub repositories or built-in names to try first."""


_LTX_TASKS = {
    "text-to-video": "LTXPipeline",
    "image-to-video": "LTXImageToVideoPipeline",
    "video-to-video": "LTXConditionPipeline",
    "latent-upsampling": "LTXLatentUpsamplePipeline",
}

_COGVIDEOX_TASKS = {
    "text-to-video": "CogVideoXPipeline",
    "image-to-video": "CogVideoXImageToVideoPipeline",
    "video-to-video": "CogVideoXVideoToVideoPipeline",
    "control-to-video": "CogVideoXFunControlPipeline",
}

FAMILIES: tuple[Family, ...] = (
    Family(
        "shapes",
        "Shapes, the model in the box",
        {task: name for task, name in _LTX_TASKS.items() if task != "latent-upsampling"},
        ("shapes",),
    ),
    Family(
        "ltx",
        "LTX-Video",
        _LTX_TASKS,
        (
            "Lightricks/LTX-Video",
            "Lightricks/LTX-Video-0.9.5",
            "Lightricks/LTX-Video-0.9.7-dev",
            "Lightricks/LTX-Video-0.9.8-13B-distilled",
            "Lightricks/ltxv-spatial-upscaler-0.9.7",
        ),
    ),
    Family(
        "cogvideox",
        "CogVideoX",
        _COGVIDEOX_TASKS,
        (
            "THUDM/CogVideoX-2b",
            "THUDM/CogVideoX-5b",
            "THUDM/CogVideoX-5b-I2V",
            "THUDM/CogVideoX1.5-5B",
            "THUDM/CogVideoX1.5-5B-I2V",
        ),
    ),
    Family(
        "text2video-zero",
        "Text2Video-Zero",
        {
            "text-to-video": "TextToVideoZeroPipeline",
            "control-to-video": "TextToVideoZeroControlNetPipeline",
            "video-to-video": "TextToVideoZeroInstructPix2PixPipeline",
        },
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "lllyasviel/sd-controlnet-canny",
            "lllyasviel/sd-controlnet-openpose",
            "timbrooks/instruct-pix2pix",
        ),
    ),
    Family(
        "text2video-zero-xl",
        "Text2Video-Zero with Stable Diffusion XL",
        {"text-to-video": "TextToVideoZeroSDXLPipeline"},
        ("stabilityai/stable-diffusion-xl-base-1.0",),
    ),
    Family(
        "stable-diffusion",
        "Stable Diffusion, the base of others",
        {
            "text-to-image": "StableDiffusionPipeline",
            "control-to-image": "StableDiffusionControlNetPipeline",
            "image-editing": "StableDiffusionInstructPix2PixPipeline",
        },
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "lllyasviel/sd-controlnet-openpose",
            "timbrooks/instruct-pix2pix",
        ),
    ),
)

PIPELINES: tuple[str, ...] = tuple(sorted({name for family in FAMILIES for name in family.pipelines.values()}))
"""Public names of all pipeline classes."""


MADE_INTO_VIDEOS: dict[str, str] = {
    "StableDiffusionControlNetPipeline": "TextToVideoZeroControlNetPipeline",
    "StableDiffusionInstructPix2PixPipeline": "TextToVideoZeroInstructPix2PixPipeline",
    "StableDiffusionPipeline": "TextToVideoZeroPipeline",
    "StableDiffusionXLPipeline": "TextToVideoZeroSDXLPipeline",
}
"""Pipeline of pictures that a checkpoint names to the one that makes videos with its components."""


def find_family(pipeline_class: str | None, checkpoint: str = "") -> Family | None:
    """The family that has that pipeline; of two that share it, the one whose table names the checkpoint."""
    found = [family for family in FAMILIES if pipeline_class in family.pipelines.values()]
    named = [family for family in found if checkpoint in family.checkpoints]
    # A model in the box is built on the family that follows it in the table.
    return next(iter(named or found[::-1]), None)


def canonical_library(library: str) -> str:
    """ "filmstrip" or "transformers", whichever serves the classes of `library` as checkpoints name it.

    Raises:
        ValueError: it is neither; nothing is imported to find out.
    """
    for known, ours in ((_OUR_LIBRARIES, "filmstrip"), (_TRANSFORMERS_LIBRARIES, "transformers")):
        if any(library == name or library.startswith(f"{name}.") for name in known):
            return ours
    raise ValueError(f"the library {library!r} is not one that checkpoints may name (diffusers, transformers).")


def reference_library(class_name: str) -> str:
    """The library under which a saved checkpoint names one of our classes, so that others can load it too."""
    return _FILED_WITH_A_PIPELINE.get(class_name, "diffusers")


def check_class(library: str, class_name: str) -> None:
    """Raise ValueError if no class of that name and library may be loaded; imports nothing."""
    if canonical_library(library) == "filmstrip":
        known = frozenset(PUBLIC)
    else:
        known = TRANSFORMERS_NETWORKS | TRANSFORMERS_PROCESSORS
    if class_name not in known:
        similar = difflib.get_close_matches(class_name, known, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else "; only known classes are ever loaded."
        raise ValueError(f"Filmstrip has no class {class_name} for the library {library!r}{hint}")


def resolve_class(library: str, class_name: str) -> Any:
    """The class that a checkpoint names, imported now.

    Raises:
        ValueError: it is not in the tables above. Nothing outside them is imported, whatever a checkpoint says.
    """
    check_class(library, class_name)
    if canonical_library(library) == "filmstrip":
        return getattr(import_module(PUBLIC[class_name]), class_name)
    # The package resolves its names lazily: only the submodule of this class is imported.
    return getattr(import_module("transformers"), class_name)

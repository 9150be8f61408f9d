"""Text encoders, image encoders and tokenizers: the classes of transformers, filled by our own loader."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from filmstrip.checkpoints.dtypes import resolve_dtype
from filmstrip.checkpoints.errors import CheckpointError, reason_of
from filmstrip.checkpoints.files import Weights, open_weights
from filmstrip.checkpoints.index import read_json
from filmstrip.checkpoints.loading import NameRules, build_empty, fill
from filmstrip.devices import parse_device
from filmstrip.hints import numbers_in
from filmstrip.hushing import hushed
from filmstrip.json_files import shown
from filmstrip.registry import IMAGE_PROCESSOR_KINDS, TRANSFORMERS_NETWORKS, TRANSFORMERS_PROCESSORS

# Text towers of CLIP: files, and the classes of transformers before 5, have a level that the classes of 5 lack.
# A row is applied only to names that the network does not have, so each serves one of the two.
_RENAMED = ((r"^text_model\.", ""), (r"^(?=embeddings\.|encoder\.|final_layer_norm\.)", "text_model."))
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
# What is small of a tokenizer or an image processor.
_TEXTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "preprocessor_config.json")
# No size and no id of a published encoder comes near it.
_LARGEST_ENTRY = 2**21
# A buffer that files of old versions hold; the classes compute it.
_IGNORED = (r"\bposition_ids$",)


def load_transformers_component(
    class_name: str,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    variant: str | None = None,
    variant_required: bool = False,
) -> Any:
    """An encoder in evaluation mode, or a tokenizer or image processor, from a component's folder.

    No code of the folder is run, and the network is not asked.
    """
    if class_name in TRANSFORMERS_PROCESSORS:
        return _load_processor(class_name, folder)
    if class_name not in TRANSFORMERS_NETWORKS:
        raise CheckpointError(f"{class_name} is not a class of transformers that Filmstrip loads.")
    network_class = _class(class_name)
    place = None if device is None else parse_device(device)
    weights = open_weights(folder, variant, variant_required=variant_required)
    resolved = resolve_dtype(dtype, weights.sizes(), place)
    network = built_empty(network_class, folder, for_weights=weights)
    fill(network, weights, dtype=resolved, device=place or torch.device("cpu"), rules=name_rules(network, resolved))
    setattr(network.config, "dtype" if hasattr(network.config, "dtype") else "torch_dtype", resolved)  # before 4.56
    return network.eval()


def built_empty(network_class: Any, folder: Path, *, for_weights: Weights | None = None) -> Any:
    """The network of transformers that the config.json in a folder describes, without memory for its weights.

    Raises:
        CheckpointError: there is no such file, or nothing can be built as it says.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"there is no config.json in {folder}, which {network_class.__name__} needs.")
    for name, value in _entries(read_json(path)):
        if any(isinstance(number, int) and abs(number) > _LARGEST_ENTRY for number in numbers_in(value)):
            raise CheckpointError(f"{path}: {name} can be {_LARGEST_ENTRY:,} at most, got {shown(value)}.")
    try:
        settings = network_class.config_class.from_pretrained(folder, local_files_only=True)
        return build_empty(lambda: network_class(settings), for_weights=for_weights)
    except Exception as error:  # of whatever type: the library trusts that its files are whole
        raise CheckpointError(
            f"{path} describes no {network_class.__name__} that can be built ({_blamed(error, read_json(path))})."
        ) from error


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _entries(value)
        else:
            yield name, value


def _blamed(error: Exception, content: Mapping[str, Any]) -> str:
    """What an error says, or where it says nothing to a user, which entries are the likely reason."""
    if isinstance(error, ArithmeticError):
        return "0 is no number of " + " or ".join(name for name, one in _entries(content) if one == 0)
    if found := re.search(r"[Ff]ield '(\w+)'", str(error)):  # of a class that checks its fields
        name = found[1]
        return f"{name} can't be {shown(dict(_entries(content)).get(name))}"
    return reason_of(error)


def name_rules(network: Any, dtype: torch.dtype) -> NameRules:
    """How published names of an encoder's tensors may differ from those of its class."""
    ignored = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    return NameRules(_RENAMED, (*_IGNORED, *ignored), _kept_in_fp32(network, dtype))


def _load_processor(class_name: str, folder: Path) -> Any:
    # Before version 5 the plain class reads a vocabulary file that a folder with a tokenizer.json may lack.
    fast_only = (folder / "tokenizer.json").is_file() and not any(folder.glob("*.model")) and _major_version() < 5
    names = [class_name]
    if class_name == "TokenizersBackend":
        names.append("PreTrainedTokenizerFast")
    elif fast_only and f"{class_name}Fast" in TRANSFORMERS_PROCESSORS:
        names.insert(0, f"{class_name}Fast")
    elif plain := next(
        (one for kind in IMAGE_PROCESSOR_KINDS if (one := class_name.removesuffix(kind)) != class_name), ""
    ):
        names.append(plain)
    elif class_name == "CLIPFeatureExtractor":  # the name of the image processor before 4.27
        names.append("CLIPImageProcessor")
    processor_class = next((found for name in names if (found := _class(name, required=False)) is not None), None)
    if processor_class is None:
        raise CheckpointError(f"this version of transformers has no {class_name}, which {folder} needs; upgrade it.")
    # Without a vocabulary some versions make an empty tokenizer, which knows no word.
    if "Token" in class_name and not any((folder / name).is_file() for name in _VOCABULARIES):
        raise CheckpointError(f"{folder} holds no vocabulary for its {class_name}: none of {', '.join(_VOCABULARIES)}.")
    for name in _TEXTS:
        if (folder / name).is_file():
            read_json(folder / name)
    try:
        processor = processor_class.from_pretrained(folder, local_files_only=True)
        if "Token" in class_name:
            padding = "max_length" if processor.pad_token is not None else False
            processor(["a red star"], padding=padding, max_length=8, truncation=True)
    except BaseException as error:  # of whatever type: a panic of the library's other language is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise CheckpointError(f"{folder} does not hold a whole {class_name} ({reason_of(error)}).") from error
    return processor


def _class(name: str, required: bool = True) -> Any:
    """A class of transformers, whose package imports only the submodule that defines it."""
    package = import_module("transformers")
    try:
        with hushed():  # some of them import torchao
            return getattr(package, name)
    except AttributeError:
        if not required:
            return None
        raise CheckpointError(f"this version of transformers has no {name}; upgrade it.") from None


def _major_version() -> int:
    return int(str(import_module("transformers").__version__).partition(".")[0])


def _kept_in_fp32(network: Any, dtype: torch.dtype) -> tuple[str, ...]:
    """Patterns of the parameters that the class itself keeps in float32 in that type."""
    names = set(getattr(network, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        names |= set(getattr(network, "_keep_in_fp32_modules", None) or ())
    return tuple(rf"(^|\.){re.escape(name)}(\.|$)" for name in sorted(names))

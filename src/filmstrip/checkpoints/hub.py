"""Repositories of the model hub: only the files that are needed, from the cache where there is no network."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from filmstrip.checkpoints.downloads import downloaded, is_told
from filmstrip.checkpoints.errors import CheckpointError, reason_of
from filmstrip.checkpoints.files import choose_files, variants_among
from filmstrip.checkpoints.tensors import TensorEntry, dtype_of

logger = logging.getLogger(__name__)

_INDEX = "model_index.json"
_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja")


# No file has such a name. The hub's client takes a snapshot with fewer files than it was asked for to be broken, and
# here only those that a pipeline needs were fetched: what is missing is said by whoever needs it.
_NO_FILE = ["//"]


class _UnreachableError(CheckpointError):
    """The hub gave no answer, so that its cache may serve instead."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name!r} is not a folder here, and could not be fetched from the hub ({reason}); check the"
            " connection, or give the path of a folder."
        )
        self.reason = reason


def revision_of(folder: str | Path) -> str | None:
    """The commit of the hub's repository that a fetched folder, or one inside of it, is of; None for other folders."""
    parts = Path(folder).absolute().parts
    for repository, kind, commit in zip(parts, parts[1:], parts[2:], strict=False):
        if repository.startswith("models--") and kind == "snapshots" and re.fullmatch("[0-9a-f]{40}", commit):
            return commit
    return None


class Repository:
    """One repository, in one revision."""

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> None:
        self.name = name
        self._local_only = local_files_only
        self._access: dict[str, Any] = {"revision": revision, "token": token}
        self._cache_dir = cache_dir
        self._listing: list[str] | None = None

    def fetch(
        self,
        subfolder: str | None = None,
        variant: str | None = None,
        patterns: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> Path:
        """The folder of the repository in the cache, with the files that the whole pipeline or `subfolder` needs."""
        if self.is_offline:
            return self._cached()
        try:
            return self._fetched(subfolder, variant, patterns, without)
        except _UnreachableError as error:
            try:
                folder = self._cached()
            except CheckpointError:
                raise error from None
            logger.warning(
                "the hub could not be asked for %s (%s); it is taken from the cache, as it was fetched before.",
                self.name,
                error.reason,
            )
            return folder

    def _fetched(
        self, subfolder: str | None, variant: str | None, patterns: Sequence[str] | None, without: Collection[str]
    ) -> Path:
        listing = self._files()
        if patterns is not None:
            wanted = [name for name in listing if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        elif subfolder is not None:
            wanted = component_files(listing, subfolder, variant)
        elif _INDEX in listing:
            wanted = [_INDEX]
            for component in sorted(set(self._components()) - set(without)):
                files = component_files(listing, component, variant)
                wanted += files
                if is_told() and files:  # one by one, so that it can be told which; all are then asked for as one
                    self._snapshot(what=component, local_files_only=False, allow_patterns=files)
        else:
            wanted = component_files(listing, "", variant)
        if not wanted:
            raise CheckpointError(f"the hub repository {self.name} has no {subfolder or 'checkpoint'} to load.")
        return self._snapshot(what=subfolder, local_files_only=False, allow_patterns=wanted)

    def _cached(self) -> Path:
        return self._snapshot(local_files_only=True, allow_patterns=_NO_FILE)

    @property
    def is_offline(self) -> bool:
        """Whether only the cache may be asked."""
        return self._local_only or _hub_is_offline()

    def has_safetensors(self, variant: str | None) -> bool:
        """Whether `weight_headers` can be read now for every component that has weights."""
        try:
            folders = set() if self.is_offline else {name.rpartition("/")[0] for name in self._files()}
        except _UnreachableError:
            return False
        chosen = [name for folder in folders for name in self._weights(folder, variant)]
        return bool(folders) and not any(name.endswith(".bin") for name in chosen)

    def variants(self, folder: str) -> set[str | None]:
        """The variants of the component's weights, None for the plain files."""
        return variants_among(_names_in(self._files(), folder))

    def weight_headers(self, folder: str, variant: str | None) -> dict[str, dict[str, TensorEntry]]:
        """File name to tensors of the component's weights, without downloading those."""
        import huggingface_hub

        ask = huggingface_hub.HfApi().parse_safetensors_file_metadata
        prefix = f"{folder}/" if folder else ""
        headers = {}
        for name in self._weights(folder, variant):
            tensors = self._ask(ask, self.name, prefix + name, **self._access).tensors
            headers[name] = {
                tensor: TensorEntry(dtype_of(about.dtype), tuple(about.shape), 0) for tensor, about in tensors.items()
            }
        return headers

    def _weights(self, folder: str, variant: str | None) -> list[str]:
        names = choose_files(_names_in(self._files(), folder), variant)
        return [name for name in names if not name.endswith(".json")]

    def _components(self) -> list[str]:
        """The folders that the index lists, each with a class that may be loaded."""
        path = self._snapshot(local_files_only=False, allow_patterns=[_INDEX]) / _INDEX
        from filmstrip.checkpoints.index import read_model_index

        return list(read_model_index(path.parent).components)

    def _files(self) -> list[str]:
        import huggingface_hub

        if self._listing is None:
            listing = self._ask(huggingface_hub.HfApi().list_repo_files, self.name, **self._access)
            self._listing = [str(name) for name in listing]
        return self._listing

    def _snapshot(self, what: str | None = None, **how: Any) -> Path:
        import huggingface_hub

        call = partial(huggingface_hub.snapshot_download, cache_dir=self._cache_dir)
        ask = partial(self._ask, call, self.name, **self._access, **how)
        return Path(downloaded(what or self.name, ask))

    def _ask(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """The call's answer, or one sentence about why there is none."""
        from huggingface_hub import errors

        name = self.name
        try:
            return call(*args, **kwargs)
        except errors.GatedRepoError as error:
            reason = f"access to {name} has to be granted: accept its terms at https://huggingface.co/{name} and log in"
            raise CheckpointError(f"{reason} (hf auth login), or pass token.") from error
        except errors.RepositoryNotFoundError as error:
            raise CheckpointError(
                f"{name!r} is neither a folder here nor a repository of the hub; check its name, or pass token if it"
                " is private."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise CheckpointError(f"the repository {name} has no revision {kwargs.get('revision')!r}.") from error
        except errors.LocalEntryNotFoundError as error:
            raise CheckpointError(
                f"{name!r} is not a folder here, nor in the hub's cache, and the hub is not reachable (or was not to be"
                " asked); connect, or give the path of a folder."
            ) from error
        except errors.HFValidationError as error:
            raise CheckpointError(f"{name!r} is neither a folder here nor a name that the hub can have.") from error
        except CheckpointError:
            raise
        except Exception as error:
            # Of many types: each version of the client has another library below, and a page in place of an answer,
            # such as the login of a network, ends in an error of whatever reads it.
            raise _UnreachableError(name, reason_of(error)) from error


def component_files(listing: Sequence[str], folder: str, variant: str | None) -> list[str]:
    """The files of one component: its small text files, and its weights in one variant and one format."""
    prefix = f"{folder}/" if folder else ""
    names = _names_in(listing, folder)
    texts = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in _TEXT_FILES)]
    weights = choose_files(names, variant)
    return [prefix + name for name in dict.fromkeys([*texts, *weights])]


def _names_in(listing: Sequence[str], folder: str) -> list[str]:
    return [name.rpartition("/")[2] for name in listing if name.rpartition("/")[0] == folder]


def _hub_is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)

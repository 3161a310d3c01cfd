"""A run's chosen weights as a safetensors file: its bytes, what it says of itself, and the digest of its tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

LENGTH_BYTES = 8  # of the header, at the beginning of the file
DIGEST_KEY = "weights_sha256"  # the format has no check of its own


@dataclass(frozen=True)
class KeptWeights:
    """The chosen epoch's weights of a run.

    Attributes:
        state: By parameter and buffer, on the CPU.
        about: The file's metadata: which run, rules, code and data the weights belong to.
    """

    state: Mapping[str, Tensor]
    about: Mapping[str, str]

    @property
    def predictions_sha256(self) -> str:
        """Of the predictions that the training ended with."""
        return self.about.get("predictions_sha256", "")

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and values, whatever file they come from."""
        return weights_digest(self.state)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copied_to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict on the CPU whose tensors share no memory, with each other or with a model."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def weights_bytes(state: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file; the same weights and metadata give the same bytes.

    Args:
        state: As `copied_to_cpu` makes it.
        about: The metadata; the digest of the tensors is added.
    """
    metadata = {"format": "pt", **about, DIGEST_KEY: weights_digest(state)}
    content = safetensors.torch.save(dict(state), metadata)
    # The library writes metadata in an order that changes from call to call.
    header, tensors = _parts(content)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + tensors


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes.

    Raises:
        ValueError: If the header is none.
    """
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(content[LENGTH_BYTES:end])
    return header, content[end:]


def parse_weights(content: bytes) -> KeptWeights | None:
    """What a safetensors file holds; None where it is damaged, or no file of `weights_bytes`."""
    try:
        state = safetensors.torch.load(content)
        about = _parts(content)[0].get("__metadata__", {})
    except (SafetensorError, ValueError):
        return None
    kept = KeptWeights(state, about)
    return kept if about.get(DIGEST_KEY) == kept.digest() else None


def read_weights(path: Path) -> KeptWeights | None:
    """The weights of a file, None where there is none or `parse_weights` refuses it."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return parse_weights(content)

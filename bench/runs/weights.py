"""A run's chosen weights: the file that keeps them, the model that they make, the proof that it scores as recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.foreign import cast
from bench.records.sealed import canonical
from bench.runs.building import build_model
from bench.runs.request import RunRequest
from bench.streams import Streams
from bench.training.kept_weights import parse_weights, weights_bytes
from bench.training.trainer import DTYPES, FORMATS, SplitData, predict
from models import fingerprint, get_spec

if TYPE_CHECKING:
    from bench.data.loading import Arrays

Logits = Mapping[str, NDArray[np.float32]]


def identity(request: RunRequest) -> dict[str, str]:
    """The metadata that must be equal for a file's weights to be this run's: rules, code, labels, arithmetic."""
    return {
        "run_id": request.run.run_id,
        "protocol_digest": request.protocol.digest(),
        "model_fingerprint": fingerprint(get_spec(request.run.model)),
        "labels_sha256": hashlib.sha256(canonical(request.card.labels_digest)).hexdigest(),
        "cpu_isa": str(request.cpu_isa) if request.device == "cpu" else "",
    }


def keep(
    request: RunRequest, state: Mapping[str, Tensor], predictions_sha256: str, arrays: Arrays, logits: Logits
) -> bytes:
    """The file of a run's chosen weights, after they have given the run's logits out of it.

    Args:
        request: The run.
        state: The weights, as `bench.training.kept_weights.copied_to_cpu` makes them.
        predictions_sha256: Of the run's predictions.
        arrays: The data set.
        logits: Of `val` and `test`, (N, K) float32 each, that the run ended with.

    Raises:
        BenchError: If a fresh model with the file's weights gives other logits.
    """
    data, card = request.protocol.data, request.card
    about = {
        **identity(request),
        "num_classes": str(len(card.class_names)),
        "in_chans": str(3 if data.channels == "rgb" else card.num_channels),
        "img_size": str(data.img_size),
        "predictions_sha256": predictions_sha256,
    }
    content = weights_bytes(state, about)
    kept = parse_weights(content)
    assert kept is not None, "weights_bytes wrote what parse_weights cannot read"
    again = split_logits(request, trained_model(request, kept.state), arrays)
    unequal = unequal_splits(again, logits)
    if unequal:
        raise BenchError(
            f"a fresh {request.run.model} with the kept weights gives other {' and '.join(unequal)} logits than the "
            "training ended with: its state_dict() lacks something; run it again without --keep-weights"
        )
    return content


def trained_model(request: RunRequest, state: Mapping[str, Tensor]) -> nn.Module:
    """A fresh model with a run's weights, as training had it: device, type, memory format; in evaluation mode."""
    run, rules = request.run, request.protocol.numerics
    model, _ = build_model(run, request.protocol, request.card, Streams(run.model, run.dataset, run.seed))
    placed = cast(model.to(request.device), DTYPES[rules.precision], FORMATS[rules.memory_format])
    placed.load_state_dict(state)
    return placed.eval()


def split_logits(request: RunRequest, model: nn.Module, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """(N, K) logits of `val` and of `test`."""
    logits = {}
    for split in ("val", "test"):
        data = SplitData.from_arrays(arrays.images[split], arrays.labels[split], request.device)
        logits[split] = predict(model, data, request.protocol)
    return logits


def unequal_splits(a: Logits, b: Logits) -> list[str]:
    """The splits whose logits are not equal bit for bit."""
    return [split for split in ("val", "test") if a[split].tobytes() != b[split].tobytes()]

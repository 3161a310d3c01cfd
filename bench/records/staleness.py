"""Whether a record still counts: its protocol, its model and its data, then and now. No torch."""

from __future__ import annotations

from bench.errors import ProtocolError
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard
from bench.records.own_models import own_spec
from bench.records.run_record import Record
from models.catalog import ModelError, get_spec, is_current


def staleness(record: Record, card: DataCard | None, *, own_only: bool = False) -> str:
    """Why a record no longer counts, "" if it does: its protocol, model or data changed since.

    A protocol file or plugin that is not loaded here cannot be compared with; see `unchecked`.

    Args:
        record: The record.
        card: Its data set's card, None where it was not measured.
        own_only: Look at the code of the suite's models alone, whatever is loaded beside them: for what is printed.
    """
    hidden = unchecked(record, own_only=own_only)
    if "protocol" not in hidden and record.protocol_digest != load_protocol(record.protocol).digest():
        return "the protocol changed"
    timm_version = record.packages.get("timm", "")
    if "model" not in hidden and not is_current(record.model, record.model_fingerprint, timm_version):
        return "the model's code (or timm's version) changed"
    if record.status == "done" and card is not None and record.labels_digest != card.labels_digest:
        return "the data changed"
    # A MedMNIST file is known by its official MD5; somebody's own images may change while their labels stay.
    if record.status == "done" and card is not None and record.run.own and record.data_md5 != card.md5:
        return "the data changed"
    return ""


def unchecked(record: Record, *, own_only: bool = False) -> list[str]:
    """What of a record cannot be compared with today's: a `protocol` or `model` that is not known here.

    With `own_only` any model is hidden that is not the suite's.
    """
    hidden = []
    try:
        load_protocol(record.protocol)
    except ProtocolError:
        hidden.append("protocol")
    return hidden if _is_known(record.model, own_only=own_only) else [*hidden, "model"]


def _is_known(model: str, *, own_only: bool) -> bool:
    if own_only:
        return own_spec(model) is not None
    try:
        get_spec(model)
    except ModelError:
        return False
    return True

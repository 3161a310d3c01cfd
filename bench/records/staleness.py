"""Whether a record still counts: its protocol, its model and its data, then and now. No torch."""

from __future__ import annotations

from bench.errors import ProtocolError
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard
from bench.records.run_record import Record
from models.catalog import ModelError, get_spec, is_current


def staleness(record: Record, card: DataCard | None) -> str:
    """Why a record no longer counts, "" if it does: its protocol, model or data changed since.

    A protocol file or plugin that is not loaded here cannot be compared with; see `unchecked`.

    Args:
        record: The record.
        card: Its data set's card, None where it was not measured.
    """
    hidden = unchecked(record)
    if "protocol" not in hidden and record.protocol_digest != load_protocol(record.protocol).digest():
        return "the protocol changed"
    timm_version = record.packages.get("timm", "")
    if "model" not in hidden and not is_current(record.model, record.model_fingerprint, timm_version):
        return "the model's code (or timm's version) changed"
    if record.status == "done" and card is not None and record.labels_digest != card.labels_digest:
        return "the data changed"
    return ""


def unchecked(record: Record) -> list[str]:
    """What of a record cannot be compared with today's: a `protocol` or `model` that is not known here."""
    hidden = []
    try:
        load_protocol(record.protocol)
    except ProtocolError:
        hidden.append("protocol")
    try:
        get_spec(record.model)
    except ModelError:
        hidden.append("model")
    return hidden

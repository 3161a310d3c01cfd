"""Is one record what it says? Its fields, its protocol, its files and its scores, each against the others. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.check.store.training import history_problems, prediction_problems
from bench.errors import BenchError, ProtocolError, RecordError
from bench.protocols.schema import Protocol
from bench.records.card import DataCard
from bench.records.names import apart, history_path, predictions_path
from bench.records.own_models import own_spec
from bench.records.predictions import PredictionTable, read_attached, read_history, read_predictions
from bench.records.run_record import SCORES, Record, Scores, real_only
from bench.records.scoring import num_rows, same_score, score_predictions, wrong_labels
from bench.records.sealed import explain_validation

UNSCORED = "cannot be scored"
TRAINED = ("best_epoch", "num_params", "history_sha256")  # what every training leaves and no fit does
# Parameters may depend on the image size and on the channels; by no more than this share where nothing was counted.
PARAMS_TOLERANCE = 0.02


@dataclass(frozen=True)
class Checked:
    """What a check of a run's files saw.

    Attributes:
        problems: One line each.
        table: Its predictions, None where they cannot be scored or need not be.
    """

    problems: list[str]
    table: PredictionTable | None = None


def field_problems(record: Record, results: Path) -> Iterator[str]:
    """Problems of the JSON itself."""
    if record.synthetic != record.run.synthetic:
        yield "synthetic does not fit the data set's name"
    kind = apart(record.dataset)
    if kind and real_only(results):
        yield f"{'an' if record.run.own else 'a'} {kind} record in a store of real ones"
    scores = ("val", "test", "test_twin_free", "predictions_sha256")
    if record.status == "done":
        missing = [name for name in scores if not getattr(record, name)]
        if missing:
            yield f"a finished run without {', '.join(missing)}"
        if record.failure is not None:
            yield "a finished run with a reason why it failed"
        yield from _kind_problems(record)
    elif record.failure is None:
        yield f"status is {record.status!r} without a reason"
    elif any(getattr(record, name) for name in scores):
        yield f"status is {record.status!r}, yet it has scores"
    problem = protocol_problem(record)
    if problem:
        yield problem


def _kind_problems(record: Record) -> Iterator[str]:
    """A network was trained, a floor or a scikit-learn model was fitted; a model that is not known here may be both."""
    has = [name for name in TRAINED if getattr(record, name) is not None]
    network = is_network(record)
    if (network or (network is None and has)) and len(has) < len(TRAINED):
        yield f"a trained run without {', '.join(name for name in TRAINED if name not in has)}"
    if network is False and has:
        yield f"{record.model} is fitted, not trained, yet the record has {', '.join(has)}"
    last = {bool(record.val_last), bool(record.test_last)}
    wanted = network is not False and bool(record.resolved_protocol.get("score_last"))
    if last != {wanted}:
        yield f"scores of the last step: {'some are missing' if wanted else 'the protocol has none'}"


def is_network(record: Record) -> bool | None:
    """Whether a run's model is trained, None where it is not the suite's."""
    spec = own_spec(record.model)
    return None if spec is None else spec.kind == "network"


def own_protocol(record: Record) -> Protocol:
    """The rules that a record says it ran under.

    Raises:
        ValidationError: If they are none.
    """
    return Protocol.model_validate(record.resolved_protocol)


def protocol_problem(record: Record) -> str:
    """Why a record's rules are not those of its name and digest, "" if they are."""
    try:
        protocol = own_protocol(record)
    except ValidationError as error:
        return f"resolved_protocol is no protocol: {explain_validation(error)}"
    if protocol.name != record.protocol:
        return f"resolved_protocol is {protocol.name!r}, the record stands under {record.protocol!r}"
    if protocol.digest() != record.protocol_digest:
        return "resolved_protocol is not what protocol_digest was taken over"
    weights = protocol.init.weights.get(record.model) if protocol.init.kind == "imagenet" else None
    if record.status == "done" and weights and weights.sha256 and record.weights_sha256 != weights.sha256:
        return f"weights_sha256 is {record.weights_sha256}, the protocol pins {weights.sha256}"
    return ""


def data_problems(record: Record, card: DataCard) -> Iterator[str]:
    """Whether a record was made on the data of a card."""
    if record.labels_digest != card.labels_digest:
        yield "the record's labels are not those of the data set's card"
    try:
        size = own_protocol(record).data.source_size
    except ValidationError:
        return  # reported with the fields
    if (size == card.source_size or record.run.own) and record.data_md5 != card.md5:
        yield f"data_md5 is {record.data_md5}, the data set's card has {card.md5}"


def params_problem(record: Record, card: DataCard, counted: dict[tuple[str, int, int], int]) -> str:
    """Why a record's number of parameters cannot be the model's, "" if it can.

    Args:
        record: The record.
        card: Its data set's card.
        counted: (model, image size, classes) -> parameters with three channels, of the costs that stand.
    """
    spec = own_spec(record.model)
    if record.num_params is None or spec is None or spec.kind != "network":
        return ""
    try:
        data = own_protocol(record).data
    except ValidationError:
        return ""
    classes, has_three = len(card.class_names), data.channels == "rgb" or card.num_channels == 3
    exact = counted.get((record.model, data.img_size, classes)) if has_three else None
    if exact is not None:
        return "" if record.num_params == exact else f"num_params is {record.num_params:,}, {exact:,} were counted"
    near = [
        number_counted
        for (model, _, number), number_counted in counted.items()
        if (model, number) == (record.model, classes)
    ]
    near = near or [claimed for claimed in (spec.num_params,) if claimed]
    if not near or any(
        abs(record.num_params - number_counted) <= PARAMS_TOLERANCE * number_counted for number_counted in near
    ):
        return ""
    return f"num_params is {record.num_params:,}, {near[0]:,} were counted at another image size"


def check_files(record: Record, path: Path, card: DataCard | None, *, scores: bool) -> Checked:
    """Problems of a run's parquet files and of the scores that they give.

    Args:
        record: A finished run.
        path: Where it stands.
        card: Its data set's card, None where there is none.
        scores: Recompute the scores, and compare them with the history.
    """
    contents: list[bytes] = []
    for file, expected in (
        (predictions_path(path), record.predictions_sha256),
        (history_path(path), record.history_sha256),
    ):
        if expected is None:
            continue
        try:
            contents.append(read_attached(file, expected))
        except RecordError as error:
            return Checked([str(error).removeprefix(f"{file.parent}/")])
    if card is None:
        return Checked(
            [f"results/data/{record.dataset}.json is missing: medbench measure data --datasets {record.dataset}"]
        )
    problems = list(data_problems(record, card))
    if not scores or problems or record.predictions_sha256 is None:
        return Checked(problems)
    return _check_scores(record, contents, card)


def _check_scores(record: Record, contents: list[bytes], card: DataCard) -> Checked:
    """Differences between the scores and what the predictions give, and between both and the history."""
    try:
        table = read_predictions(contents[0], num_rows=num_rows(record, card))
        problem = wrong_labels(table, card)
        if problem:
            return Checked([f"{UNSCORED}: {problem}"])
        again = score_predictions(table, card)
    except (BenchError, KeyError) as error:
        return Checked([f"{UNSCORED}: {error}"])
    named = [name for name in SCORES if name in again or getattr(record, name)]
    problems = [problem for name in named for problem in _differences(record, name, again.get(name, {}))]
    if len(contents) == 2:
        problems += _history_problems(record, contents[1], card, table)
    return Checked(problems, table)


def _differences(record: Record, name: str, computed: Scores) -> Iterator[str]:
    stored: Scores = getattr(record, name) or {}
    for metric in sorted({*computed, *stored}):
        if not same_score(stored.get(metric), computed.get(metric)):
            values = f"{stored.get(metric)} in the record, {computed.get(metric)} by its predictions"
            yield f"{name} {metric} is {values}"


def _history_problems(record: Record, content: bytes, card: DataCard, table: PredictionTable) -> list[str]:
    try:
        protocol = own_protocol(record)
        history = read_history(content, "the history", protocol.schedule.epochs)
        problems = list(history_problems(record, history, protocol, card))
    except (RecordError, ProtocolError) as error:
        return [str(error)]
    except ValidationError:
        return []  # reported with the fields
    return problems or list(prediction_problems(record, history, protocol, card, table))

"""How far a number can be trusted: by what stands behind it, never by who sent it. No torch.

`published` is printed by a paper. `self-reported` came as numbers with a source and without predictions
(`results/self_reported/*.json`). `re-scored` was computed again from the stored predictions, whose labels are those of
the stored digests. `re-run` was trained again, and the re-run agrees (`results/reruns/<run_id>.json`, written by
`medbench compare --record`): bit-equal or equivalent by the rule of `bench.check.verdicts`. Only the last two are
measured: the first two are never ranked with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from bench.check.verdicts import AGREEING, Ends, RerunVerdict, judge
from bench.data.names import flag_of
from bench.errors import BenchError, RecordError
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.run_record import Record, read_record
from bench.records.scoring import same_score
from bench.records.sealed import Line, Sealed, Strict, explain_validation, read_all, read_file

Level = Literal["published", "self-reported", "re-scored", "re-run"]

WRITERS = ("pandas", "pyarrow")  # the same versions write the same table as the same bytes
MEASURED: tuple[Level, ...] = ("re-scored", "re-run")  # what may be ranked
NOT_AGREEING: dict[RerunVerdict, str] = {"differs": "differ", "not told apart": "show no equivalence"}
MEANING: dict[Level, str] = {
    "published": "printed by a paper; nothing of it can be checked here",
    "self-reported": "sent as numbers with a source, without predictions; never ranked with measured ones",
    "re-scored": "computed from the stored predictions, whose labels are those of the data set's stored digest",
    "re-run": "trained again, and medbench compare found the re-run bit-equal or equivalent",
}

# What nothing in a store can show: whoever sends such a record is believed, until somebody runs it again.
UNSEEN = (
    "training on test images, or a choice of seed, recipe or epoch that looked at test scores",
    "test logits that were permuted within a class, or invented, while those of val stayed",
    "a whole run, with its history and its number of parameters, under the name of another model",
    "a history with another train loss or order of epochs, or with other val scores outside the chosen epoch",
    "a device, a duration, a memory peak or a package's version that is not true, and timings too fast by less "
    "than no such device can do",
    "a number of parameters that is wrong by less than 2 % where no costs were counted at the same image size",
)


class SelfReported(Strict):
    """A row that somebody sent without predictions; fractions in [0, 1]. All of it is the sender's word."""

    schema_version: Literal[1] = 1
    model: Line = Field(min_length=1, max_length=80)
    dataset: str
    protocol: Line = Field(min_length=1, max_length=200)
    auc: float | None = Field(default=None, ge=0.0, le=1.0)
    acc: float | None = Field(default=None, ge=0.0, le=1.0)
    num_seeds: int | None = Field(default=None, ge=1)
    source_url: str = Field(pattern=r"^https://[^\s\"'<>]+$", max_length=300)
    author: Line = Field(min_length=1, max_length=120)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    note: Line = Field(default="", max_length=300)

    @field_validator("dataset")
    @classmethod
    def _real_dataset(cls, value: str) -> str:
        try:
            flag_of(value)
        except BenchError as error:
            raise ValueError(str(error)) from None
        if value.startswith(SYNTHETIC_PREFIX):
            raise ValueError("scores on synthetic data cannot be reported")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.auc is None and self.acc is None:
            raise ValueError("give auc, acc or both, as fractions")
        return self


class Rerun(Sealed):
    """What a second training of a recorded run showed; differences are re-run minus record.

    Attributes:
        run_id: The run.
        reference_digest, rerun_digest: `record_digest` of the record and of the re-run's.
        verdict, reason: What `bench.check.compare.folders` says of the two; the verdict follows from the numbers, or it
        is refused. auc_difference, acc_difference: On the official test, fractions; None where undefined.
        auc_interval_90, acc_interval_90: Their 90 % intervals. auc_p, mcnemar_p: DeLong's and exact McNemar's;
        None for bit-equal runs. rerun_*: The re-run's own origin; the re-run itself is not kept.
    """

    suite_version: str
    run_id: str
    reference_digest: str
    rerun_digest: str
    verdict: RerunVerdict
    reason: str
    auc_difference: float | None
    acc_difference: float
    auc_interval_90: Ends | None
    acc_interval_90: Ends
    auc_p: float | None
    mcnemar_p: float | None
    rerun_predictions_sha256: str
    rerun_device: str | None
    rerun_cpu_isa: str | None
    rerun_num_threads: int | None
    rerun_commit: str | None
    rerun_dirty: bool | None
    rerun_packages: dict[str, str]

    @model_validator(mode="after")
    def _verdict_follows(self) -> Self:
        if self.rerun_digest == self.reference_digest:
            raise ValueError("the re-run is the record itself")
        sides = ((self.auc_difference, self.auc_interval_90), (self.acc_difference, self.acc_interval_90))
        if any((value is None) != (ends is None) for value, ends in sides):
            raise ValueError("a difference and its interval come together")
        if self.verdict == "bit-equal":
            numbers = [number for value, ends in sides if ends is not None for number in (value, *ends)]
            if any(numbers) or (self.auc_p, self.mcnemar_p) != (None, None):
                raise ValueError("bit-equal runs have differences of 0 and no test")
            return self
        if self.mcnemar_p is None or (self.auc_p is None) != (self.auc_difference is None):
            raise ValueError(f"{self.verdict} without the tests that it rests on")
        if any(ends is not None and not ends[0] <= (value or 0.0) <= ends[1] for value, ends in sides):
            raise ValueError("a difference lies outside its interval")
        expected = judge(self.auc_interval_90, self.acc_interval_90, self.auc_p, self.mcnemar_p)
        if expected != self.verdict:
            raise ValueError(f"the verdict is {self.verdict!r}, its intervals and tests say {expected!r}")
        return self


@dataclass(frozen=True)
class CellTrust:
    """A cell's level, the lowest of its runs, and what should be shown beside it."""

    level: Level
    detail: str = ""


def self_reported_files(results: Path) -> list[Path]:
    """Rows sent as numbers, in a fixed order."""
    return sorted((results / "self_reported").glob("*.json"))


def read_self_reported(results: Path) -> tuple[list[SelfReported], list[str]]:
    """Every usable self-reported row, and why the others were left out, one line each."""
    rows: list[SelfReported] = []
    notes: list[str] = []
    for path in self_reported_files(results):
        try:
            rows.append(read_row(path))
        except RecordError as error:
            notes.append(f"left out: {error}")
    return sorted(rows, key=lambda row: (row.dataset, row.model, row.source_url)), notes


def read_row(path: Path) -> SelfReported:
    """One self-reported row.

    Raises:
        RecordError: Naming the file and the reason.
    """
    content = read_file(path)
    try:
        return SelfReported.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {explain_validation(error)}") from None


def rerun_path(results: Path, run_id: str) -> Path:
    """Where the evidence of a re-run stands."""
    return results / "reruns" / f"{run_id}.json"


def read_reruns(results: Path) -> tuple[dict[str, Rerun], list[str]]:
    """Evidence of re-runs by the digest of the record that was run again, and why others were left out."""
    reruns, notes = read_all(
        (results / "reruns").glob("*.json"), Rerun, lambda rerun, path: _problem_of(rerun, path, results)
    )
    return {rerun.reference_digest: rerun for rerun in reruns}, notes


def _problem_of(rerun: Rerun, path: Path, results: Path) -> str:
    """Why evidence does not count: its name, or the record that it is about where that stands here."""
    if path.stem != rerun.run_id:
        return f"it is about {rerun.run_id}, which belongs elsewhere"
    slug, dataset, protocol, seed = ["", "", "", *rerun.run_id.rsplit("__", 3)][-4:]
    try:
        record = read_record(results / "records" / protocol / slug / dataset / f"seed{seed[1:]}.json")
    except RecordError:
        return ""
    return contradiction(rerun, record) if record.record_digest == rerun.reference_digest else ""


def contradiction(rerun: Rerun, record: Record) -> str:
    """Why evidence cannot be about a record that it names by digest, "" if it can.

    Equal files hold equal scores. Equal scores can stand in two files, but not where the same pandas and pyarrow wrote
    both.
    """
    if rerun.run_id != record.run_id:
        return f"it says {rerun.run_id}, and the record with that digest is {record.run_id}"
    same_file = rerun.rerun_predictions_sha256 == record.predictions_sha256
    if same_file and rerun.verdict != "bit-equal":
        return f"the verdict is {rerun.verdict!r}, yet the re-run's predictions are the record's, byte for byte"
    writers = [[packages.get(name) for name in WRITERS] for packages in (rerun.rerun_packages, record.packages)]
    if rerun.verdict == "bit-equal" and not same_file and None in writers[0]:
        return "the verdict is 'bit-equal' with other predictions, and no pandas and pyarrow that wrote them"
    if rerun.verdict == "bit-equal" and not same_file and writers[0] == writers[1]:
        return "the verdict is 'bit-equal', yet the same pandas and pyarrow wrote other predictions than the record's"
    return ""


def same_scores(stored: Mapping[str, float | None] | None, computed: Mapping[str, float | None]) -> bool:
    """Whether two sets of scores have the same measures with the same values to 1e-12."""
    stored = stored or {}
    if stored.keys() != computed.keys():
        return False
    return all(same_score(stored[key], computed[key]) for key in computed)


def trust_of_cell(records: Sequence[Record], reruns: Mapping[str, Rerun], *, rescored: bool) -> CellTrust:
    """The level of the mean of some runs: that of the least trusted one.

    Args:
        records: Its finished runs.
        reruns: From `read_reruns`; one about an older record of a run counts for nothing.
        rescored: Whether their scores were computed again from their predictions.
    """
    if not rescored:
        return CellTrust("self-reported", "the stored predictions do not give these scores")
    known = [reruns[record.record_digest] for record in records if record.record_digest in reruns]
    agreeing = [rerun for rerun in known if rerun.verdict in AGREEING]
    for verdict, words in NOT_AGREEING.items():
        against = sum(rerun.verdict == verdict for rerun in known)
        if against:
            return CellTrust("re-scored", f"{against} of {len(known)} re-runs {words}")
    if len(agreeing) == len(records) and records:
        kinds = [kind for kind in AGREEING if any(rerun.verdict == kind for rerun in agreeing)]
        return CellTrust("re-run", f"{len(agreeing)} of {len(records)} seeds, {' and '.join(kinds)}")
    partly = f"{len(agreeing)} of {len(records)} seeds re-run" if agreeing else ""
    return CellTrust("re-scored", partly)

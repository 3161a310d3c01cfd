"""Print the selection of one recorded run that can be done again here: `pick_recorded.py RESULTS SEED`. No torch.

The same results and seed give the same run. What it may be: finished, not stale, on a CPU held at AVX2 (the one
instruction set at which every x86-64 machine gives the same bits), trained in at most 20 minutes. Fitted models take
seconds and are not drawn: they would be most of the weeks.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.errors import BenchError, RecordError
from bench.records.card import read_card
from bench.records.run_record import Record, read_records
from bench.records.staleness import staleness
from models.catalog import ModelError, get_spec

CPU_ISA = "avx2"
MAX_TRAIN_SECONDS = 20 * 60.0


def can_be_redone(record: Record, results: Path) -> bool:
    """Whether a second training of a record should come out bit-equal, in a hosted runner's time."""
    if record.status != "done" or record.synthetic or record.cpu_isa != CPU_ISA:
        return False
    try:
        is_network = get_spec(record.model).kind == "network"
    except ModelError:  # of a plugin that is not here
        return False
    on_cpu = (record.device or "").startswith("cpu")
    in_time = record.train_seconds is not None and record.train_seconds <= MAX_TRAIN_SECONDS
    return is_network and on_cpu and in_time and not staleness(record, read_card(results, record.dataset))


def pick(records: Iterable[Record], results: Path, seed: str) -> Record:
    """One of the records that can be done again, by a seed.

    Raises:
        RecordError: If there is none: a check that checks nothing should not pass.
    """
    fit = sorted((record for record in records if can_be_redone(record, results)), key=lambda record: record.run)
    if not fit:
        wanted = f"on a CPU at {CPU_ISA}, in at most {MAX_TRAIN_SECONDS:g} s of training"
        raise RecordError(f"{results} holds no finished run of a network {wanted}; medbench run adds one")
    return random.Random(seed).choice(fit)


def selection(record: Record) -> str:
    """The options of `medbench run` that mean this run alone."""
    return f"--protocol {record.protocol} --models {record.model} --datasets {record.dataset} --seeds {record.seed}"


if __name__ == "__main__":
    try:
        folder = Path(sys.argv[1])
        print(selection(pick(read_records(folder)[0], folder, sys.argv[2])))
    except BenchError as error:
        sys.exit(f"pick_recorded.py: {error}")

"""What sweeps chose, as files: a protocol for each model and data set, and the study `tuned` of their runs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ProtocolError, RecordError
from bench.protocols.families import Rules, merge
from bench.protocols.grid import Grid
from bench.protocols.loading import list_protocols, read_toml, would_be
from bench.protocols.planned import planned_seeds
from bench.protocols.writing import dotted_rules, toml_text
from bench.records.names import is_own
from bench.records.sealed import write_atomic
from bench.records.tuning.record import TuningRecord, read_tunings

STUDY = "tuned.toml"


@dataclass(frozen=True)
class TunedFiles:
    """The files of a grid's choices: its study, None where all are on somebody's own data, and protocols by name."""

    study: Path | None
    protocols: dict[str, Path]


def write_files(folder: Path, results: Path, grid: Grid) -> TunedFiles:
    """Write what all sweeps of a results folder chose from a grid; the study is made anew, a protocol never changed.

    Raises:
        RecordError: If the file system refuses.
        ProtocolError: If a protocol's file says something else.
    """
    records = [record for record in read_tunings(results)[0] if record.grid_digest == grid.digest()]
    protocols = {record.protocol: _write_protocol(folder, grid, record) for record in records}
    shared = [record for record in records if not is_own(record.dataset)]
    if not shared:
        return TunedFiles(None, protocols)
    study = folder / STUDY
    write_atomic(study, _study_text(grid, shared).encode())
    return TunedFiles(study, protocols)


def _write_protocol(folder: Path, grid: Grid, record: TuningRecord) -> Path:
    path, content = folder / f"{record.protocol}.toml", _content(grid, record)
    text = toml_text(content)
    assert tomllib.loads(text) == content, "what is written is what was checked"
    assert would_be(path, content) == record.chosen, "the file gives the rules that were chosen"
    if not path.exists():
        try:
            write_atomic(path, text.encode())
        except RecordError as error:
            raise RecordError(str(error).replace("--results", "--folder")) from None
    elif read_toml(path) != content:
        raise ProtocolError(f"{path} is not what the sweep chose; remove it, or give another --folder")
    return path


def _content(grid: Grid, record: TuningRecord) -> Rules:
    """A chosen protocol's tables; a base of somebody's own is in them whole, so that no other file is needed."""
    params = record.chosen_trial.params
    content = grid.chosen_content(params, record.model, record.dataset)
    del content["name"]
    if grid.base.name not in list_protocols():
        chosen: Rules = record.chosen.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        return chosen
    rules: Rules = {"extends": grid.base.name, **content}
    for key, value in params.items():
        rules = merge(rules, dotted_rules(key, value))
    return rules


def _study_text(grid: Grid, records: list[TuningRecord]) -> str:
    """The runs of the choices and, where it is the suite's, of the recipe that they are compared with."""
    question = f"What do models gain from a recipe chosen on val, each with the same budget, over {grid.base.name}?"
    lines = [f"question = {json.dumps(question)}"]
    bases = [grid.base.name] if grid.base.name in list_protocols() else []
    for record in records:
        seeds = planned_seeds(grid.base.name, record.model, record.dataset) or (record.seed,)
        protocols = json.dumps([record.protocol, *bases])
        lines += ["", "[[parts]]", f"protocols = {protocols}", f"models = {json.dumps([record.model])}"]
        lines += [f"datasets = {json.dumps([record.dataset])}", f"seeds = {json.dumps(list(seeds))}"]
    return "\n".join(lines) + "\n"

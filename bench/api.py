"""The public face: what a notebook or script may use, and what the commands of `medbench` call.

Of the commands only `measure` and `gradcam` are not here: `bench.measure` imports torch, and stands above the rooms
that a report needs.

    import bench.api as mb

    chosen = mb.Selection(protocols=("smoke",), models=("resnet18_28",), datasets=("synthetic-breastmnist",))
    outcome = mb.run(chosen, mb.Launch(results=Path("mine")))
    frame = mb.load_results("mine")

A script that calls `run` does so under `if __name__ == "__main__":`, since each run is a process of its own. What is
heavy is imported by the function that needs it; nothing here imports torch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RecordError
from bench.plan.selection import Selection
from bench.plan.state import Overwrite, PlannedRun, make_plan
from bench.protocols.schema import Protocol
from bench.records.names import Run, predictions_path
from bench.records.predictions import read_attached
from bench.records.run_record import Record, find_record, read_records, results_folder, to_frame
from bench.runs.request import Launch

if TYPE_CHECKING:
    import pandas as pd

    from bench.check.compare.rows import Comparison
    from bench.check.contribution import Contribution
    from bench.check.merge import Merged
    from bench.check.verify import Findings
    from bench.report.build import Built
    from bench.runs.launch import Outcome, Watcher
    from bench.runs.tracks.late import Scored
    from bench.runs.tuning.sweep import Sweeps, Tuned, TuneWatcher

__all__ = [
    "Launch",
    "Protocol",
    "Record",
    "Run",
    "Selection",
    "changes",
    "check_contribution",
    "check_model",
    "check_report",
    "compare",
    "doctor",
    "explain",
    "export",
    "load_predictions",
    "load_results",
    "merge",
    "plan",
    "report",
    "run",
    "track",
    "tune",
    "verify",
]

DRAWN = ("medspectralnet",)  # whose curves and matrices a report draws


def _path(name: str | Path) -> Path:
    """A path with `~` as the home folder, which a shell leaves alone behind `=` and a notebook always."""
    return Path(os.path.expanduser(name))


def plan(selection: Selection, results: str | Path = "results") -> list[PlannedRun]:
    """How each run of a selection stands in a results folder, and what those not done should cost.

    Args:
        selection: Which runs.
        results: The results folder; without one, every run is missing.

    Returns:
        One item a run: `run`, `state` (done, missing, stale or failed), `reason`, `estimate` in seconds of one core.

    Raises:
        BenchError, ModelError: If nothing is selected, or a name is unknown.
    """
    return make_plan(selection.runs(), _path(results))


def run(
    selection: Selection, launch: Launch, *, overwrite: Overwrite = "never", watcher: Watcher | None = None
) -> Outcome:
    """Do what is missing of a selection, each run in a process of its own, and write the records.

    The environment of this process gets the variables that pin the CPU's arithmetic (`launch.cpu_isa`).

    Args:
        selection: Which runs.
        launch: Where results go, on what device, how many at once.
        overwrite: Which recorded runs are done again: never, stale, failed, isa or always.
        watcher: Called with the plan, at every start, progress and end, and with each reason for a skipped run.

    Returns:
        The records that were written and the runs that were skipped; `ok` says whether nothing failed.

    Raises:
        BenchError, ModelError: If a name is unknown, data are damaged or results cannot be written.
        Interrupted: After SIGINT or SIGTERM; the same call goes on from the checkpoints.
    """
    from bench.runs import launch as launching

    return launching.run(selection, launch.expanded(), overwrite=overwrite, watcher=watcher)


def track(
    selection: Selection, launch: Launch, name: str = "c28", *, weights: str | Path | None = None, **options: Any
) -> Scored:
    """Score a corruption track for finished runs that have no current record of it; errors as `run`. Imports torch.

    Args:
        selection: Which runs.
        launch: As for `run`, which scores a track as runs end (`Launch.tracks`).
        name: The track.
        weights: A folder of kept ones; what it lacks is trained and kept there.
        **options: `on_event` of `bench.runs.tracks.late.score_selection`.
    """
    from bench.runs.tracks.late import score_selection

    weights = None if weights is None else _path(weights)
    return score_selection(selection, launch.expanded(), name, weights=weights, **options)


def tune(sweeps: Sweeps, launch: Launch, watcher: TuneWatcher | None = None) -> Tuned:
    """Choose a recipe for each model on val, each with one budget; arguments as `bench.runs.tuning.sweep.tune`."""
    from bench.runs.tuning import sweep

    return sweep.tune(sweeps, launch.expanded(), watcher)


def report(
    results: str | Path = "results",
    reports: str | Path = "reports",
    *,
    models: Sequence[str] = DRAWN,
    documents: bool = False,
    repository: str = "",
) -> Built:
    """Rebuild every table, figure and page of a results folder.

    Args:
        results: The results folder.
        reports: Where the report goes: a folder of its own.
        models: Whose curves and confusion matrices are drawn.
        documents: Write the generated parts of README.md and docs/findings.md beside `reports`, too.
        repository: Address of the folder that holds `results`, for reports that are hosted alone; "" for relative
            links.

    Returns:
        The files, notes for a person, and whether everything was current already.

    Raises:
        RecordError: If a folder is missing or refuses.
    """
    from bench.report import build

    return build(_path(results), _path(reports), models, documents=documents, repository=repository)


def check_report(
    results: str | Path = "results",
    reports: str | Path = "reports",
    *,
    models: Sequence[str] = DRAWN,
    strict: bool = False,
    documents: bool = False,
    repository: str = "",
) -> list[str]:
    """What differs between a report and what the records give, one line a file; nothing is written.

    Args:
        results: The results folder.
        reports: Where the report stands.
        models: Whose curves and confusion matrices are drawn.
        strict: Name every file that no report wrote, too.
        documents: Compare the generated parts of README.md and docs/findings.md, too.
        repository: As `report` had it.

    Raises:
        RecordError: If the results folder is not there.
    """
    from bench.report import compare as differences

    return differences(
        _path(results), _path(reports), models, strict=strict, documents=documents, repository=repository
    )


def changes(base: str | Path, results: str | Path = "results") -> str:
    """What stands on the leaderboard of a results folder and not, or otherwise, on another's; Markdown.

    Args:
        base: The results folder that stands.
        results: The one that would replace it.

    Raises:
        RecordError: If a folder is not there, or its evidence is damaged.
    """
    from bench.report.site.changes import changes_text

    return changes_text(_path(base), _path(results))


def export(kind: str, target: str | Path, results: str | Path = "results", **hub: str) -> list[Path]:
    """Write cards (`croissant`) or scores (`every-eval-ever`, `eval-results`) as others read them; returns the files.

    Args:
        kind: The format.
        target: A folder for the files.
        results: The results folder; its real data alone.
        hub: For `eval-results`: `benchmark`, `task`, `protocol`, `source`, as `bench.report.exports.hub.Hub` has them.

    Raises:
        RecordError: If the format is unknown, or nothing in the folder has it.
    """
    from bench.report.exports.files import export as write
    from bench.report.exports.hub import Hub

    return write(_path(results), _path(target), kind, Hub(**hub))


def verify(results: str | Path = "results", *, scores: bool = False) -> Findings:
    """Check schema, digests, names and files of every record.

    Args:
        results: The results folder.
        scores: Recompute every metric from the stored predictions too.

    Returns:
        The findings; `problems` is empty when all is whole.

    Raises:
        RecordError: If the folder is not there, or is no results folder.
    """
    from bench.check.verify import verify as check

    return check(_path(results), scores=scores)


def check_contribution(results: str | Path, base: str | Path) -> Contribution:
    """Compare a contributed results folder with the one that stands: nothing of it may vanish or change.

    Args:
        results: The contributed folder, whole.
        base: The folder that stands.

    Returns:
        The problems, and notices for a maintainer.

    Raises:
        RecordError: If a folder is not there.
    """
    from bench.check import contribution

    return contribution.check_contribution(_path(results), _path(base))


def merge(sources: Sequence[str | Path], results: str | Path = "results") -> Merged:
    """Bring what several results folders hold into one; a refused merge changes nothing.

    Args:
        sources: Results folders, of shards for instance.
        results: Where everything goes.

    Returns:
        What was copied and what was there already.

    Raises:
        RecordError: If a record is damaged or contradicts another, or synthetic ones would enter a store of real ones.
    """
    from bench.check import merge as merging

    return merging.merge([_path(source) for source in sources], _path(results))


def check_model(name: str, *, img_size: int | None = None) -> list[dict[str, str]]:
    """Run the contract on a registered model; imports torch.

    Args:
        name: A registered name, or `timm/<architecture>`.
        img_size: Height and width of the images, in pixels; None for 64, or the nearest that the model takes.

    Returns:
        Rows with the keys `model`, `check`, `holds` (`yes`, `no` or `skipped`) and `detail` (one line).

    Raises:
        ModelError: If no such model is registered.
    """
    from bench.check import contract

    return contract.check_model(name, img_size=img_size)


def doctor() -> list[dict[str, str]]:
    """What this machine has and lacks: rows with the keys `what`, `state` (`ok`, `missing`, `note`) and `detail`."""
    from bench.check.doctor import examine

    return examine()


def compare(a: str | Path, b: str | Path, *, record: bool = False) -> Comparison:
    """Compare two results folders run by run: bit-equal, equivalent, not told apart, or differs.

    Args:
        a: The reference.
        b: The re-runs.
        record: Write what each re-run showed to `<a>/reruns/`.

    Raises:
        RecordError: If a folder is not there, or the two have no run in common.
    """
    from bench.check.compare.folders import compare_folders

    return compare_folders(_path(a), _path(b), record=record)


def explain(
    results: str | Path = "results",
    *,
    table: str,
    model: str,
    dataset: str = "",
    metric: str,
    protocol: str | None = None,
    part: str = "test",
) -> list[str]:
    """The records, seeds, digests, commit and hardware that a table's cell comes from, in lines.

    Args:
        results: The results folder.
        table: `table2`, `table3` or `table4`.
        model: A registered name, or one that a record has.
        dataset: A MedMNIST flag; Table 4 has none.
        metric: `auc` or `acc`; of Table 4 `params`, `thop`, `ptflops` or `aten`.
        protocol: One protocol; None for each that has the cell.
        part: `test` or `test_twin_free`.

    Raises:
        BenchError: If a name is unknown, or the folder is not there.
    """
    from bench.report.explain.scores import explain as lines_of

    return lines_of(
        _path(results), table=table, model=model, dataset=dataset, metric=metric, protocol=protocol, part=part
    )


def load_results(results: str | Path = "results") -> pd.DataFrame:
    """Every record of a results folder as one table, one row a run.

    Args:
        results: The folder that holds `records/`.

    Returns:
        A DataFrame; scores are fractions in columns such as `test_auc` and `test_acc`.

    Raises:
        RecordError: If there is no such results folder, or a record is damaged; nothing is left out silently.
    """
    records, problems = read_records(results_folder(_path(results), advice=""))
    if problems:
        raise problems[0]
    return to_frame(records)


def load_predictions(run: str | Run | Record, results: str | Path = "results") -> pd.DataFrame:
    """A finished run's class scores on val and test, checked against its record.

    Args:
        run: A run, its record, or its id such as `resnet18__breastmnist__paper-224__s0`.
        results: The folder that holds `records/`.

    Returns:
        One row an image: `split`, `index`, `label`, and a column `logit_<k>` for each class.

    Raises:
        RecordError: If folder or run is missing or not finished, or the predictions are not those of the record.
    """
    folder = results_folder(_path(results), advice="")
    path, record = find_record(folder, run if isinstance(run, str) else run.run_id)
    if record.status != "done":
        raise RecordError(f"{record.run_id} has no predictions: its record says {record.status}")
    import pandas as pd

    content = read_attached(predictions_path(path), record.predictions_sha256)
    frame: pd.DataFrame = pd.read_parquet(io.BytesIO(content))
    return frame

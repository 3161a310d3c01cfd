"""Scores as `.eval_results/*.yaml` of the Hugging Face Hub: what a model's page there shows, a benchmark collects.

Which benchmark on the Hub a result belongs to, and what its tasks are called, only its maintainers say: both are given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.report.analysis.scores import Score
from bench.report.tables.score_cells import METRICS


def eval_results(scores: Sequence[Score], *, benchmark: str, task: str, source: str) -> bytes:
    """One model's official test scores on one data set, an entry a measure and protocol; YAML.

    Args:
        scores: The cells.
        benchmark: The benchmark's data set on the Hub, `owner/name`.
        task: Its task, a pattern in which `{dataset}` and `{metric}` stand for the score's.
        source: Address of the results, "" for none.
    """
    lines = []
    for score in scores:
        name = task.format(dataset=score.dataset, metric=score.metric)
        over = "one seed" if score.n_seeds == 1 else f"mean of {score.n_seeds} seeds"
        notes = f"{METRICS[score.metric]} under {score.protocol}, {over}, {score.num_images} test images"
        lines += [
            "- dataset:",
            f"    id: {_text(benchmark)}",
            f"    task_id: {_text(name)}",
            f"  value: {score.mean!r}",
        ]
        lines += ["  source:", f"    url: {_text(source)}"] if source else []
        lines.append(f"  notes: {_text(notes)}")
    return ("\n".join(lines) + "\n").encode()


def _text(value: str) -> str:
    """A string of YAML: one of JSON is one."""
    return json.dumps(value, ensure_ascii=False)

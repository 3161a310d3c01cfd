"""Scores as `.eval_results/*.yaml` of the Hugging Face Hub: what a model's page there shows, a benchmark collects.

Which benchmark on the Hub a result belongs to, and what its tasks are called, only its maintainers say: both are given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import RecordError
from bench.report.analysis.scores import Score
from bench.report.tables.score_cells import METRICS


@dataclass(frozen=True)
class Hub:
    """Where scores belong on the Hub.

    Attributes:
        benchmark: The benchmark's data set there, `owner/name`.
        task: Its tasks, a pattern in which `{dataset}`, `{metric}` and `{protocol}` stand for the score's.
        protocol: The one protocol whose scores are written, "" for all.
        source: Address of the results, "" for none.
    """

    benchmark: str = ""
    task: str = "{dataset}_{metric}_{protocol}"
    protocol: str = ""
    source: str = ""

    def task_of(self, score: Score) -> str:
        """The task that a score is one of.

        Raises:
            RecordError: If the pattern holds anything else.
        """
        try:
            return self.task.format(dataset=score.dataset, metric=score.metric, protocol=score.protocol)
        except (AttributeError, LookupError, TypeError, ValueError):
            raise RecordError(
                f"Cannot read --task {self.task!r}; what it may hold in braces is {{dataset}}, {{metric}}, {{protocol}}"
            ) from None


def eval_results(scores: Sequence[Score], hub: Hub) -> bytes:
    """One model's official test scores on one data set, an entry a measure and protocol; YAML.

    Args:
        scores: The cells.
        hub: Where they belong.

    Raises:
        RecordError: If two of them would be one task's.
    """
    lines, tasks = [], dict[str, Score]()
    for score in scores:
        task = hub.task_of(score)
        other = tasks.setdefault(task, score)
        if other is not score:
            raise RecordError(
                f"Task {task!r} of {score.model} would have two values ({other.protocol} {other.metric}, "
                f"{score.protocol} {score.metric}); name one --protocol, or put {{protocol}} and {{metric}} into --task"
            )
        over = "one seed" if score.n_seeds == 1 else f"mean of {score.n_seeds} seeds"
        notes = f"{METRICS[score.metric]} under {score.protocol}, {over}, {score.num_images} test images"
        lines += [
            "- dataset:",
            f"    id: {_text(hub.benchmark)}",
            f"    task_id: {_text(task)}",
            f"  value: {score.mean!r}",
        ]
        lines += ["  source:", f"    url: {_text(hub.source)}"] if hub.source else []
        lines.append(f"  notes: {_text(notes)}")
    return ("\n".join(lines) + "\n").encode()


def _text(value: str) -> str:
    """A string of YAML: one of JSON is one."""
    return json.dumps(value, ensure_ascii=False)

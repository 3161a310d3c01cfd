"""Scores in the shared format of Every Eval Ever, schema 0.3.0: a file a model and protocol, a result a data set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from bench import __version__
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.analysis.scores import Score
from bench.report.tables.score_cells import METRICS, TEST_PARTS
from bench.stats.intervals import LEVEL

SCHEMA = "0.3.0"
DEVELOPER = "medspectral-bench"  # built and trained here, by the architecture of others: the prefix of a model's id
KINDS = {"auc": "auroc", "acc": "accuracy"}


def every_eval(scores: Sequence[Score], records: Sequence[Record], cards: dict[str, DataCard], when: int) -> bytes:
    """One model under one protocol.

    Args:
        scores: Its cells' AUC and accuracy.
        records: The runs behind them.
        cards: Of the data sets, by name.
        when: Seconds since 1970, as the time of the export.
    """
    first = records[0]
    content = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{DEVELOPER}/{first.protocol}/{first.model}/{when}",
        "retrieved_timestamp": str(when),
        "source_metadata": {
            "source_name": f"medspectral-bench, protocol {first.protocol}",
            "source_type": "evaluation_run",
            "source_organization_name": "medspectral-bench",
            "evaluator_relationship": "third_party",
            "additional_details": {"paper": "https://doi.org/10.1371/journal.pone.0346128"},
        },
        "eval_library": {"name": "medspectral-bench", "version": __version__},
        "model_info": {
            "name": first.model,
            "id": f"{DEVELOPER}/{first.model.replace('/', '--')}",
            "developer": DEVELOPER,
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "model_fingerprint": first.model_fingerprint,
                "protocol_digest": first.protocol_digest,
                **({"num_params": str(first.num_params)} if first.num_params else {}),
            },
        },
        "evaluation_results": [_result(score, records, cards[score.dataset]) for score in scores],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _result(score: Score, records: Iterable[Record], card: DataCard) -> dict[str, Any]:
    runs = [record for record in records if record.dataset == score.dataset]
    return {
        "evaluation_name": f"{score.dataset}, {TEST_PARTS[score.part]}, {METRICS[score.metric]}",
        "source_data": {
            "dataset_name": score.dataset,
            "source_type": "url",
            "url": ["https://medmnist.com/"],
            "additional_details": {"md5": card.md5, "labels_sha256_test": card.labels_digest["test"]},
        },
        "metric_config": {
            "metric_id": KINDS[score.metric],
            "metric_name": METRICS[score.metric],
            "metric_kind": KINDS[score.metric],
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": score.mean,
            "details": {
                "seeds": " ".join(str(seed) for seed in score.seeds),
                "record_digests": " ".join(record.record_digest for record in sorted(runs, key=lambda r: r.seed)),
            },
            "uncertainty": _uncertainty(score),
        },
    }


def _uncertainty(score: Score) -> dict[str, Any]:
    """The interval as the analysis plan has it; nothing but the images where there is none."""
    images = {"num_samples": score.num_images}
    if math.isnan(score.ci_low):
        return images
    method = f"closed form over {score.interval}; results/ANALYSIS_PLAN.md"
    interval = {"lower": score.ci_low, "upper": score.ci_high, "confidence_level": 1 - LEVEL, "method": method}
    return {"confidence_interval": interval, **images}

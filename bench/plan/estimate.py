"""What a run should cost: from recorded runs first, then from the timings of a training step. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from statistics import mean, median
from typing import Literal

from bench.errors import ProtocolError
from bench.protocols.loading import load_protocol
from bench.protocols.schedule import epoch_bounds
from bench.protocols.subset import num_train
from bench.records.card import DataCard, read_card
from bench.records.names import Run
from bench.records.run_record import read_records
from bench.records.timing_record import Setting, TimingRecord, read_timings
from models.catalog import get_spec

Source = Literal["runs", "timings", "fixed", "repository"]
REPOSITORY = Path(__file__).parents[2] / "results"  # the recorded evidence of a checkout


@dataclass(frozen=True)
class Estimate:
    """Seconds of training and val scoring on one core, and what says so."""

    seconds: float
    source: Source


class CostEstimate:
    """Seconds a run should take.

    From recorded runs of the same model at the same size, scaled by images x epochs. A model without one takes the
    rate of the others at that size times how fast its training step was timed beside theirs: a rough number, since
    that ratio is another size's. Where the folder has nothing to go by, the repository's own records do, whose machine
    may be faster or slower.

    Args:
        results: The results folder.
        card_of: A data set's card, None where it was not measured.
    """

    def __init__(self, results: Path, card_of: Callable[[str], DataCard | None]) -> None:
        self.results, self.card_of = results, card_of
        rates: dict[int, dict[str, list[float]]] = {}
        for record in read_records(results)[0]:
            size = record.resolved_protocol.get("data", {}).get("img_size")
            if record.status == "done" and record.images_per_second and size:
                rates.setdefault(size, {}).setdefault(record.model, []).append(record.images_per_second)
        # Images per second of training by size and model.
        self.rates = {size: {model: mean(seen) for model, seen in by.items()} for size, by in rates.items()}

    def of(self, run: Run) -> Estimate | None:
        """A run's cost; None without anything to go by."""
        estimate = self._by_folder(run)
        if estimate is not None or self._repository is None:
            return estimate
        elsewhere = self._repository.of(run)
        return None if elsewhere is None else Estimate(elsewhere.seconds, "repository")

    @cached_property
    def _repository(self) -> CostEstimate | None:
        """The estimate from the repository's records; None for that folder itself, and where there is no checkout."""
        if not REPOSITORY.is_dir() or self.results.resolve() == REPOSITORY.resolve():
            return None
        return CostEstimate(REPOSITORY, cache(partial(read_card, REPOSITORY)))

    def _by_folder(self, run: Run) -> Estimate | None:
        if get_spec(run.model).kind != "network":
            return Estimate(1.0, "fixed")
        protocol = load_protocol(run.protocol)
        card = self.card_of(run.dataset)
        rates = self.rates.get(protocol.data.img_size, {})
        own = rates.get(run.model)
        rate = own or self._scaled(run.model, rates)
        if rate is None or card is None:
            return None
        try:
            kept = num_train(protocol.data, card.class_counts["train"], card.clinical_positive)
        except ProtocolError:
            return None  # the run itself says why this data set cannot be thinned so
        bounds = epoch_bounds(protocol.schedule, kept, card.num_images["train"])
        trained = sum(last - first for first, last in bounds)
        # Scoring an image costs about a third of training on it: forward without backward.
        images = protocol.schedule.epochs * (trained + card.num_images["val"] / 3)
        return Estimate(images / rate, "runs" if own else "timings")

    def _scaled(self, model: str, rates: dict[str, float]) -> float | None:
        """Images per second, from models that were both run at a size and timed as this one was."""
        if not rates or model not in self.speeds:
            return None
        mine = self.speeds[model]
        guesses = [
            rate * median(mine[way] / self.speeds[other][way] for way in common)
            for other, rate in rates.items()
            if (common := mine.keys() & self.speeds.get(other, {}).keys())
        ]
        return median(guesses) if guesses else None

    @cached_property
    def speeds(self) -> dict[str, dict[tuple[str, Setting], float]]:
        """Images per second of a timed training step by model, then device and setting."""
        speeds: dict[str, dict[tuple[str, Setting], float]] = {}
        for record in read_timings(self.results)[0]:
            speeds.setdefault(record.model, {}).update(_training_speeds(record))
        return speeds


def _training_speeds(record: TimingRecord) -> dict[tuple[str, Setting], float]:
    return {
        (record.device, cell.setting): median(
            float(rate) for round_ in done for rate in round_.images_per_second(cell.setting.batch_size)
        )
        for cell in record.cells
        if cell.setting.mode == "training" and (done := [round_ for round_ in cell.rounds if round_.status == "done"])
    }

"""Where links of generated pages lead: known when a page is rendered, from the folder that it will stand in."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from bench.errors import BenchError
from bench.records.cost_record import CostCell
from bench.records.names import model_slug
from bench.records.own_models import own_models

__all__ = ["BESIDE", "Links", "card_path"]

DOCUMENTS = ("ANALYSIS_PLAN.md", "README.md")  # of a results folder, written by hand; a folder of one's own has none
ADDRESS = re.compile(r"""https?://[^\s"'<>()\[\]?#]+""")


@dataclass(frozen=True)
class Links:
    """Links from one folder, as a page writes them: a space, `#`, a quote and the like are escaped.

    Attributes:
        results: From there to the results folder, or the address at which a repository shows it.
        reports: From there to the reports folder.
        documents: Which of the results folder's documents are there.
    """

    results: str = "../results"
    reports: str = "."
    documents: tuple[str, ...] = DOCUMENTS

    @classmethod
    def of(cls, folder: Path, results: Path, reports: Path, repository: str = "") -> Links:
        """Those of a page that stands in `folder`.

        Args:
            folder: The page's.
            results: The results folder.
            reports: The reports folder.
            repository: Address of the folder that holds the results folder, for reports that are hosted alone; "" for
                relative links.

        Raises:
            BenchError: If `repository` is not an address that a link can begin with.
        """
        if repository and not ADDRESS.fullmatch(repository):
            raise BenchError(
                f"{repository!r} is not an address; give one like https://example.org/OWNER/NAME/blob/main"
            )
        there = tuple(name for name in DOCUMENTS if (results / name).is_file())
        to_results, to_reports = (quote(os.fsencode(os.path.relpath(target, folder))) for target in (results, reports))
        if repository:
            to_results = f"{repository.rstrip('/')}/{quote(os.fsencode(results.resolve().name))}"
        return cls(to_results, to_reports, there)

    def below(self) -> Links:
        """Those of a page one folder further down."""
        to_results = self.results if ADDRESS.match(self.results) else _joined("..", self.results)
        return Links(to_results, _joined("..", self.reports), self.documents)

    def to_results(self, path: str) -> str:
        """To what stands in the results folder: `tables/`."""
        return _joined(self.results, path)

    def to_document(self, name: str) -> str:
        """To a document of the results folder, "" where it has none."""
        return self.to_results(name) if name in self.documents else ""

    def to_report(self, path: str) -> str:
        """To what stands in the reports folder: `table3.md`."""
        return _joined(self.reports, path)

    def to_records(self, protocol: str, model: str, dataset: str, seeds: Sequence[int]) -> str:
        """To a cell's records: the file of one seed, the folder of several."""
        folder = f"records/{protocol}/{model_slug(model)}/{dataset}"
        return self.to_results(f"{folder}/seed{seeds[0]}.json" if len(seeds) == 1 else f"{folder}/")

    def to_costs(self, model: str, img_size: int, num_classes: int) -> str:
        """To the record of a model's counted costs."""
        return self.to_results(CostCell(model, img_size, num_classes).path(Path()).as_posix())


BESIDE = Links()  # `reports/` and `results/` stand in one folder


def _joined(folder: str, path: str) -> str:
    return path if folder == "." else f"{folder}/{path}"


def card_path(model: str) -> str:
    """The page of a model's card below the reports folder; "" for one that does not come with the suite."""
    return f"models/{model_slug(model)}.html" if model in _own_models() else ""


@cache
def _own_models() -> frozenset[str]:
    return frozenset(own_models())

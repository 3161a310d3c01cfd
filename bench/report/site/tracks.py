"""The tracks: evidence beside the official test, a section each. To add one is to add a line here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.report.site.figures import PageFigure

__all__ = ["TRACKS", "ShownTrack", "Track", "tracks"]


@dataclass(frozen=True)
class Track:
    """What a track answers, and the names of its files below the reports folder.

    Attributes:
        title: Its heading.
        question: In one sentence.
        table: Of its table's files, without suffix, "" for none.
        figures: Beginnings of its figures' names.
    """

    title: str
    question: str
    table: str = ""
    figures: tuple[str, ...] = ()


TRACKS = (
    Track("Twins", "What does a score owe to test images that are nearly in train or val?", "twins", ("twins",)),
    Track("Grad-CAM", "Where do the maps look, and do two layers agree?", figures=("fig12", "fig13")),
    Track("Calibration", "Are probabilities what they say?", "calibration", ("reliability",)),
    Track("Robustness", "What do noise, blur and other corruptions take?", "robustness", ("robustness",)),
    Track("Rare classes", "What happens with few images of a class?", "imbalance", ("imbalance",)),
    Track("Few images", "How does the score grow with the training set?", "efficiency", ("efficiency",)),
    Track("Initialisation", "What do pretrained weights add?", "initialisation", ("initialisation",)),
    Track("A recipe for each model", "Does one recipe for all hold some models back?", "tuned"),
)


@dataclass(frozen=True)
class ShownTrack:
    """A track with what a report has of it."""

    track: Track
    tables: list[str]
    figures: list[PageFigure]


def tracks(names: Collection[str], figures: Sequence[PageFigure]) -> list[ShownTrack]:
    """Every track with its files.

    Args:
        names: Of all files below the reports folder.
        figures: All pictures of the report.
    """
    return [
        ShownTrack(
            track,
            [f"{track.table}{end}" for end in (".html", ".md", ".csv", ".tex") if f"{track.table}{end}" in names],
            [figure for figure in figures if figure.name.startswith(track.figures)],
        )
        for track in TRACKS
    ]

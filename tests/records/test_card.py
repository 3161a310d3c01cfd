"""Data cards: sealed, and refused where their numbers do not fit together."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.card import DataCard, card_path, read_card, write_card
from bench.records.names import Run
from bench.records.run_record import STORE_FILE
from bench.records.sealed import pretty
from bench.report.build import build
from tests.making import make_card, make_run

RESULTS = Path(__file__).parents[2] / "results"
SHA = "0" * 64


def read_or_refused(results: Path, dataset: str) -> DataCard | str | None:
    """A card, or that it was refused by the name of its file."""
    try:
        return read_card(results, dataset)
    except RecordError as error:
        return "refused" if f"{dataset}.json: " in str(error) else str(error)


def test_a_card_comes_back_as_it_was_measured(tmp_path: Path) -> None:
    """The file carries the digest of its content."""
    card = make_card("breastmnist")
    write_card(tmp_path, card)
    assert read_card(tmp_path, "breastmnist") == card
    assert card.record_digest == card.computed_digest() != ""
    assert read_card(tmp_path, "bloodmnist") is None


@pytest.mark.parametrize("path", sorted((RESULTS / "data").glob("*.json")), ids=lambda path: path.stem)
def test_no_damage_to_a_recorded_card_is_read(tmp_path: Path, path: Path) -> None:
    """A hundred random bytes, cuts and digits: refused by file, or the very same card (white space)."""
    card, content = read_card(RESULTS, path.stem), path.read_bytes()
    (tmp_path / "data").mkdir()
    draw = random.Random(path.stem)
    for number in range(100):
        position = draw.randrange(len(content))
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[position:]
        elif number % 3 == 1:
            damaged[position] ^= draw.randrange(1, 256)
        else:
            digits = [index for index, byte in enumerate(content) if byte in b"0123456789"]
            damaged[draw.choice(digits)] = ord(draw.choice("0123456789"))
        card_path(tmp_path, path.stem).write_bytes(bytes(damaged))
        assert read_or_refused(tmp_path, path.stem) in (card, "refused")


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "../../x"},
        {"dataset": "synthetic-breastmnist"},
        {"class_names": ["a", "b\n# c"]},
        {"class_names": ["a"]},
        {"license": ""},
        {"num_images": {"train": 30, "val": 12}},
        {"class_counts": {"train": [15, 15], "val": [6, 6], "test": [12, 13]}},
        {"class_counts": {"train": [15, 15], "val": [6, 6], "test": [24]}},
        {"labels_digest": {"train": SHA, "val": SHA, "test": "x"}},
        {"labels_digest": {"train": SHA, "val": SHA}},
        {"clinical_positive": 2},
        {"twin_test_indices": [1, 24]},
        {"twin_test_indices": [5, 1]},
        {"twin_test_indices": [1, 1]},
        {"twins": {"train/test": [[0, 99]], "train/val": [], "val/test": []}},
        {"twins": {"train/test": [[0]], "train/val": [], "val/test": []}},
        {"exact": {"train/test": [[0, 1]], "train/val": [], "val/test": []}},
        {"num_twin_pairs": {"train/test": 2}},
        {"md5": "x"},
        {"num_channels": 0},
        {"similarity": {"train/val": [0.0] * 12, "train/test": [0.0] * 24, "val/test": [0.0] * 24}},
        {"similarity": {"train/val": [0.0] * 12, "train/test": [1.0] * 24, "val/test": [0.0] * 24}},
        {"similarity": {"train/val": [0.0] * 12, "train/test": [2.0] * 24, "val/test": [0.0] * 24}},
        {"similarity": {"train/val": [0.0], "train/test": [0.0] * 24, "val/test": [0.0] * 24}},
        {"similarity": {"train/val": [0.0] * 12}},
    ],
)
def test_a_sealed_card_whose_numbers_do_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whoever seals an impossible card anew gets one line, not a traceback or another table."""
    content = {**make_card("breastmnist").model_dump(mode="json"), **changes}
    sealed = DataCard.model_construct(**content).computed_digest()
    (tmp_path / "data").mkdir()
    card_path(tmp_path, "breastmnist").write_bytes(pretty({**content, "record_digest": sealed}))
    with pytest.raises(RecordError, match=r"breastmnist\.json: ") as refusal:
        read_card(tmp_path, "breastmnist")
    assert len(str(refusal.value).splitlines()) == 1
    assert "record_digest" not in str(refusal.value)


def test_a_card_without_a_digest_is_one_line_with_the_command(tmp_path: Path) -> None:
    """Cards from before they were sealed are measured anew."""
    content = make_card("breastmnist").model_dump(mode="json", exclude={"record_digest"})
    (tmp_path / "data").mkdir()
    card_path(tmp_path, "breastmnist").write_bytes(pretty(content))
    with pytest.raises(RecordError, match="medbench measure data --datasets breastmnist measures it anew"):
        read_card(tmp_path, "breastmnist")


def test_another_set_s_card_is_not_read(tmp_path: Path) -> None:
    """A copied file describes no other data."""
    write_card(tmp_path, make_card("bloodmnist"))
    card_path(tmp_path, "bloodmnist").rename(card_path(tmp_path, "breastmnist"))
    with pytest.raises(RecordError, match="names bloodmnist, which belongs elsewhere"):
        read_card(tmp_path, "breastmnist")


@pytest.mark.parametrize(
    ("dataset", "what"), [("synthetic-breastmnist", "synthetic"), ("own-cells", "own data"), ("breastmnist", "")]
)
def test_a_store_of_real_records_takes_cards_of_real_data_alone(tmp_path: Path, dataset: str, what: str) -> None:
    """As it takes runs: `merge` would refuse the folder for such a card."""
    (tmp_path / STORE_FILE).write_text('{"real_only": true}', encoding="utf-8")
    if what:
        line = f"{dataset} is {what} and {tmp_path} holds real records only; use another --results"
        with pytest.raises(RecordError, match=f"^{re.escape(line)}$"):
            write_card(tmp_path, make_card(dataset))
    else:
        write_card(tmp_path, make_card(dataset))
    assert card_path(tmp_path, dataset).exists() == (what == "")


def test_a_damaged_card_changes_no_report(tmp_path: Path) -> None:
    """`verify` names it and `report` refuses in one line, so that no number comes of it."""
    results = tmp_path / "results"
    make_run(results, Run("smoke", "resnet18", "breastmnist", 0))
    path = card_path(results, "breastmnist")
    content = json.loads(path.read_bytes())
    path.write_bytes(pretty({**content, "twin_test_indices": [1]}))
    assert any("breastmnist.json: record_digest" in problem for problem in verify(results).problems)
    with pytest.raises(RecordError, match=r"breastmnist\.json: record_digest"):
        build(results, tmp_path / "reports")

"""A grid file: which recipes are tried, which go on, and what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.protocols.grid import load_grid
from bench.protocols.halving import Budget, Halving, halve
from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from tests.sweeps import BASE, GRID, VALUES, smoke_grid, write_grid

BUDGET = Budget(rungs=(1, 2, 4))


def _sweep(budget: Budget, values: list[tuple[float, ...]]) -> tuple[Halving, list[list[float | None]]]:
    """Train trials with these values as far as the rule lets each go."""
    curves: list[list[float | None]] = [[] for _ in values]
    while (stand := halve(budget, curves)).todo:
        for trial in stand.todo:
            curves[trial] = list(values[trial][: stand.until])
    return stand, curves


def test_halving_by_hand() -> None:
    """Four trials train an epoch, the best two a second, the best one all four; later values of others are not seen."""
    curves: list[list[float | None]] = [[] for _ in VALUES]
    stand = halve(BUDGET, curves)
    assert (stand.until, stand.todo, stand.choice) == (1, (0, 1, 2, 3), None)
    curves = [[value[0]] for value in VALUES]
    stand = halve(BUDGET, curves)
    assert (stand.until, stand.todo, stand.epochs) == (2, (1, 3), (1, 2, 1, 2))
    curves[1] = list(VALUES[1][:2])
    assert halve(BUDGET, curves).todo == (3,)  # the round ends for both at once
    curves[3] = list(VALUES[3][:2])
    stand = halve(BUDGET, curves)
    assert (stand.until, stand.todo, stand.epochs) == (4, (1,), (1, 4, 1, 2))
    curves[1] = list(VALUES[1])
    assert halve(BUDGET, curves) == Halving(4, (), (1, 4, 1, 2), 1)
    assert BUDGET.counts(4) == [4, 2, 1]
    assert BUDGET.epochs(4) == 4 * 1 + 2 * 1 + 1 * 2 == sum((1, 4, 1, 2))
    assert (BUDGET.counts(7), BUDGET.epochs(7)) == ([7, 3, 1], 7 * 1 + 3 * 1 + 1 * 2)  # halves are rounded down
    assert (BUDGET.counts(3), BUDGET.epochs(3)) == ([3, 1, 1], 3 * 1 + 1 * 1 + 1 * 2)  # and one always goes on


def test_the_best_value_so_far_counts_and_ties_go_to_the_earlier_trial() -> None:
    """A run keeps its best epoch, so a trial that fell since is as good as it was; of a loss the lowest is best."""
    budget = Budget(rungs=(2, 4), reduction=2)
    stand, _ = _sweep(budget, [(0.9, 0.1, 0.1, 0.1), (0.2, 0.8, 0.8, 0.8), (0.3, 0.3, 0.3, 0.3), (0.9, 0.9, 0.9, 0.9)])
    assert (stand.epochs, stand.choice) == ((4, 2, 2, 4), 0)
    loss = Budget(rungs=(1, 2), metric="val_loss")
    assert _sweep(loss, [(0.9, 0.1), (0.5, 0.4)])[0].choice == 1


def test_a_trial_that_diverged_goes_no_further() -> None:
    """However good it was; where none is left there is no choice."""
    curves: list[list[float | None]] = [[0.5], [0.9], [0.6], []]
    stand = halve(Budget(rungs=(1, 2)), curves, {1, 3})
    assert (stand.todo, stand.epochs) == ((0, 2), (2, 1, 2, 0))
    assert halve(Budget(rungs=(1,)), [[0.5], [None]], {0}).choice is None


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_every_model_gets_the_same_epochs_in_whatever_order(values: list[tuple[float, ...]], random: object) -> None:
    """What is spent depends on nobody's scores; which recipe is best does not depend on its place in the grid."""
    stand, curves = _sweep(BUDGET, values)
    assert sum(map(len, curves)) == sum(stand.epochs) == BUDGET.epochs(len(values))
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again, _ = _sweep(BUDGET, [values[trial] for trial in order])
    assert stand.choice is not None
    assert again.choice is not None
    if len({value[0] for value in values} | {max(v[:2]) for v in values}) == 2 * len(values):  # no ties
        assert max(values[order[again.choice]]) == max(values[stand.choice])


def test_trials_are_combinations_drawn_by_the_seed(tmp_path: Path) -> None:
    """All of them in the grid's order, or as many as the budget takes: the same ones whatever else the grid names."""
    text = GRID.replace("[budget]", "optim.weight_decay = [0.0, 0.05]\n[budget]")
    whole = load_grid(write_grid(tmp_path, text)).trials()
    assert len(whole) == 8
    assert whole[:2] == [{"optim.lr": 1e-4, "optim.weight_decay": 0.0}, {"optim.lr": 1e-4, "optim.weight_decay": 0.05}]
    few = [load_grid(write_grid(tmp_path, f"{text}trials = 3\nseed = {seed}\n")).trials() for seed in (0, 0, 1, 2, 3)]
    assert few[0] == few[1]
    assert len({str(chosen) for chosen in few}) > 1
    for chosen in few:
        assert len(chosen) == 3
        assert chosen == [params for params in whole if params in chosen]


def test_a_digest_is_of_what_decides(tmp_path: Path) -> None:
    """Neither prose nor how keys are written moves it; a value, the budget and the protocol beneath do."""
    grid = load_grid(write_grid(tmp_path))
    quoted = GRID.replace("optim.lr", '"optim.lr"').replace("[grid]", 'description = "mine"\n[grid]')
    assert load_grid(write_grid(tmp_path, quoted, "other-name")).digest() == grid.digest()
    for old, new in (("1e-4", "2e-4"), ("[1, 2, 4]", "[1, 4]"), ("[1, 2, 4]", "[1, 2, 4]\nseed = 1")):
        assert load_grid(write_grid(tmp_path, GRID.replace(old, new))).digest() != grid.digest(), new
    assert smoke_grid(tmp_path).digest() != grid.digest()
    (tmp_path / "other-own.toml").write_text(f"{BASE}\n[augment]\nhorizontal_flip = 0.5\n", encoding="utf-8")
    other = load_grid(write_grid(tmp_path, GRID.replace("short-own", "other-own")))
    assert (other.values, other.budget) == (grid.values, grid.budget)
    assert other.digest() != grid.digest()


def test_a_chosen_recipe_is_a_protocol_of_its_own(tmp_path: Path) -> None:
    """Its name says grid, model and data; its digest is of its rules alone; the choice is written into it."""
    grid = smoke_grid(tmp_path)
    tuned = grid.tuned_protocol({"optim.lr": 0.01}, "timm/resnet26", "breastmnist")
    assert tuned.name == "tuned-lrs-timm-resnet26-breastmnist"
    assert tuned.optim.lr == 0.01
    assert tuned.digest() == grid.trial_protocol({"optim.lr": 0.01}, 2).digest() != load_protocol("smoke").digest()
    assert tuned.tuned is not None
    assert (tuned.tuned.base, tuned.tuned.grid_digest) == ("smoke", grid.digest())
    assert "tuned" not in load_protocol("smoke").model_dump()
    with pytest.raises(ValueError, match="belongs to the protocol tuned-lrs-timm-resnet26-breastmnist"):
        Protocol.model_validate({**tuned.model_dump(), "name": "other"})


REFUSED = {
    "parent": ("short-own", "lite-69", "Unknown protocol 'lite-69'; did you mean 'lite-96'"),
    "key": ("optim.lr", "optim.lrr", "unknown key 'optim.lrr'; did you mean 'lr'"),
    "room": ("optim.lr", "data.img_size", "grid.data.img_size may not vary"),
    "epochs": ("optim.lr", "schedule.epochs", "grid.schedule.epochs may not vary"),
    "prose": ("optim.lr", "description", "grid.description may not vary"),
    "empty": ("[1e-4, 1e-3, 1e-2, 1e-1]", "[]", "grid.optim.lr = [] is refused: write a list"),
    "no list": ("[1e-4, 1e-3, 1e-2, 1e-1]", "1e-4", "grid.optim.lr = 0.0001 is refused: write a list"),
    "one": ("[1e-4, 1e-3, 1e-2, 1e-1]", "[1e-4]", "combinations are 1 in number; 2 to 10,000"),
    "twice": ("1e-3", "1e-4", "grid.optim.lr names a value twice"),
    "date": ("1e-3", "2026-01-01", "grid.optim.lr holds"),
    "infinite": ("1e-3", "inf", "grid.optim.lr holds"),
    "value": ("1e-4", "-1e-4", "optim.lr = -0.0001 is refused"),
    "type": ("1e-4", '"fast"', "optim.lr = 'fast' is refused"),
    "test": ("rungs", 'metric = "test_auc"\nrungs', "test data chooses nothing; take val_auc, val_acc, val_loss"),
    "metric": ("rungs", 'metric = "auc"\nrungs', "budget.metric = 'auc' is refused"),
    "last rung": ("[1, 2, 4]", "[1, 2]", "budget.rungs end at 2 epochs, short-own has 4"),
    "rungs": ("[1, 2, 4]", "[2, 1, 4]", "rungs are whole numbers of epochs, rising"),
    "no rungs": ("rungs = [1, 2, 4]", "", "the key 'budget.rungs' is missing"),
    "reduction": ("rungs", "reduction = 1\nrungs", "budget.reduction = 1 is refused"),
    "trials": ("rungs", "trials = 9\nrungs", "budget.trials = 9, but the grid has 4"),
    "budget": ("rungs", "hours = 9\nrungs", "unknown key 'budget.hours'"),
    "TOML": ("[grid]", "[grid", "is not valid TOML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_in_one_line(case: str, tmp_path: Path) -> None:
    """Before anything is trained: with the file, the key, what came and what would do."""
    old, new, said = REFUSED[case]
    assert old in GRID
    path = write_grid(tmp_path, GRID.replace(old, new))
    with pytest.raises(ProtocolError) as caught:
        load_grid(path)
    line = str(caught.value)
    assert said in line
    assert len(line.splitlines()) == 1


def test_a_grid_has_a_name_of_its_own(tmp_path: Path) -> None:
    """It is a part of the name of what is chosen from it."""
    with pytest.raises(ProtocolError, match="rename the file"):
        load_grid(write_grid(tmp_path, GRID, "My_Grid"))

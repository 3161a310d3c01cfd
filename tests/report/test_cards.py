"""Model cards: one for every model of the suite, from catalogue and records alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bench.records.names import Run, model_slug
from bench.records.own_models import own_models
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.published.names import model_name
from bench.report.tables import model_cards
from models import catalog, get_spec, list_models, load_plugin
from tests.making import make_run

OWN = Path(__file__).parents[2] / "results"
THEIRS = """from models import register_model


@register_model(source="a test")
def their_net(**sizes):
    return None
"""
RUNS = [Run("lite-96", "resnet18", "breastmnist", seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cards") / "results"
    for run in (
        *RUNS,
        Run("lite-96", "floor/prior", "breastmnist", 0),
        Run("smoke", "medvit_t", "synthetic-breastmnist", 0),
    ):
        make_run(folder, run, device="cpu: a processor", num_threads=1)
    shutil.copytree(OWN / "costs" / "resnet18", folder / "costs" / "resnet18")
    return folder


@pytest.fixture(scope="module")
def files(store: Path) -> dict[str, bytes]:
    evidence = gather(store)
    return model_cards.render(evidence, analyse(evidence, synthetic=False), synthetic=False)


def text(files: dict[str, bytes], model: str) -> str:
    return files[f"models/{model_slug(model)}.md"].decode()


def test_somebody_elses_model_has_a_card_of_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On real data beside the suite's, on synthetic data stamped and alone; the suite's models get no second one."""
    monkeypatch.setattr(catalog, "_plugins", {})
    (tmp_path / "their_net.py").write_text(THEIRS, encoding="utf-8")
    load_plugin(tmp_path / "their_net.py")
    make_run(tmp_path, Run("lite-96", "their_net", "breastmnist", 0))
    for model in ("their_net", "resnet18_28"):
        make_run(tmp_path, Run("smoke", model, "synthetic-breastmnist", 0))
    monkeypatch.setattr(catalog, "_plugins", {})
    evidence = gather(tmp_path)
    real = model_cards.render(evidence, analyse(evidence, synthetic=False), synthetic=False)
    ends = ("md", "html")
    assert set(real) == {f"models/{model_slug(name)}.{end}" for name in [*own_models(), "their_net"] for end in ends}
    record = next(record for record in evidence.records if record.model == "their_net")
    assert f"fingerprint `{record.model_fingerprint[:16]}`" in text(real, "their_net")
    assert "lite-96" in text(real, "their_net")
    made = model_cards.render(evidence, analyse(evidence, synthetic=True), synthetic=True)
    assert set(made) == {f"models/SYNTHETIC_their_net.{end}" for end in ends}
    card = made["models/SYNTHETIC_their_net.md"].decode()
    assert "<h1>SYNTHETIC: model card: their_net</h1>" in made["models/SYNTHETIC_their_net.html"].decode()
    assert card.startswith("<!-- SYNTHETIC | medbench report")
    assert "# SYNTHETIC: model card: their_net" in card
    assert "`SYNTHETIC_table3.md`" in card


def test_every_model_of_the_suite_has_a_card(files: dict[str, bytes]) -> None:
    """Networks, floors and what scikit-learn fits; each names paper, source, licences and says what it is not for."""
    assert set(files) == {f"models/{model_slug(name)}.{kind}" for name in own_models() for kind in ("md", "html")}
    assert {"floor/prior", "sklearn/logistic", "medmamba_t", "resnet18"} <= set(own_models())
    for name in own_models():
        spec, card = get_spec(name), text(files, name)
        assert card.startswith("<!-- medbench report | ")
        assert f"# Model card: {model_name(name)}" in card
        assert "Not for diagnosis." in card
        assert "- Licence of the code: " in card
        assert "- Licence of the weights: " in card
        assert spec.paper in card
        assert "## Determinism" in card
        assert "not stated" not in card


def test_a_card_says_what_the_catalogue_says(files: dict[str, bytes]) -> None:
    """Deviations, sizes, weights, claimed and published counts."""
    card = text(files, "nest_t")
    assert "- Images: 16 px and more in steps of 16" in card
    assert "- Public weights: timm tag `goog_in1k`" in card
    assert "Published as NesT-Tiny (1000 cls): 17.06 M parameters, 5.83 GMACs" in card
    card = text(files, "medvit_t")
    assert "- Deviations from the paper: as released: without the Patch Momentum Changer of the paper" in card
    assert "- Note: 10.8 M parameters quoted for MedViT-T (not verified), 31.1 M counted in the release" in card
    assert "UNVERIFIED" in card
    assert "Not counted yet: `medbench measure costs --size 224 --num-classes 8 --models medvit_t`" in card


def test_a_card_shows_what_was_measured(files: dict[str, bytes], store: Path) -> None:
    """Mean and n with a link that leads somewhere, counted sizes, the device, the data's licence, what is missing."""
    card = text(files, "resnet18")
    accs = [json.loads(run.path(store).read_bytes())["test"]["acc"] for run in RUNS]
    row = next(line for line in card.splitlines() if line.startswith("| lite-96"))
    assert f"[{sum(accs) / 2:.3f} ± " in row
    assert row.split("|")[3].strip() == "2"
    for target in re.findall(r"\]\((\.\./\.\./results/[^)]*)\)", card):
        assert (store.parent / target.removeprefix("../../")).exists(), target
    assert "- Devices of the records: cpu: a processor" in card
    assert "- BreastMNIST: CC BY 4.0; nobody" in card
    assert "[11,180,616](../../results/costs/resnet18/224-8.json)" in card
    assert "- `lite-96`: BloodMNIST, DermaMNIST, PneumoniaMNIST, OrganCMNIST, OrganSMNIST: not run" in card
    assert "pins no public ImageNet-1k weights for medvit_t" in text(files, "medvit_t")


def test_what_was_made_here_is_in_no_card(files: dict[str, bytes], store: Path) -> None:
    """A run on synthetic data is no evidence about a model."""
    assert "No record of a run on real data yet." in text(files, "medvit_t")
    assert not any(b"synthetic" in content for content in files.values())
    evidence = gather(store)
    assert model_cards.render(evidence, analyse(evidence, synthetic=True), synthetic=True) == {}


def test_a_plugin_has_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its author writes it; the suite does not speak for other people's files."""
    monkeypatch.setattr(catalog, "_plugins", {})  # other tests never see it
    path = tmp_path / "card_plugin.py"
    path.write_text(
        "from models import register_model\n@register_model(paper='none')\ndef card_net(**_):\n    pass\n",
        encoding="utf-8",
    )
    assert load_plugin(path) == ["card_net"]
    assert "card_net" in list_models()
    assert "card_net" not in own_models()


def test_a_fitted_model_is_not_called_random(files: dict[str, bytes]) -> None:
    """Floors and scikit-learn's models come out the same for every seed and have no weights to load."""
    card = text(files, "floor/prior")
    assert "comes out the same for every seed" in card
    assert "Public weights" not in card
    assert "## Size" not in card

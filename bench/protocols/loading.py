"""Protocols and studies: TOML in, frozen and digested objects out.

A protocol is everything that changes a number. Its name is frozen: a changed protocol is a new file. The
digest leaves out every key that stands at its default, and a key that is added later gets "as before" as its
default, so a new key makes no old record stale.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import ProtocolError

PROTOCOL_DIR = Path(__file__).parent
STUDY_DIR = Path(__file__).parents[1] / "studies"
Probability = Field(default=0.0, ge=0.0, le=1.0)
MAX_SEED = 2**32 - 1  # what NumPy and scikit-learn take


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataRules(_Frozen):
    """Which pixels reach the model."""

    source_size: Literal[28, 64, 128, 224]
    img_size: int = Field(ge=1)
    interpolation: Literal["nearest", "bilinear"]
    channels: Literal["native", "rgb"]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0.0)], ...]
    max_train: int | None = Field(default=None, ge=2)


class AugmentRules(_Frozen):
    """Random changes of training images; a key left out is off.

    Geometry is one warp per image from the source pixels to `img_size`; colour changes come before it, blur
    after it, then normalisation, erasing, CutMix.
    """

    horizontal_flip: float = Probability
    rotation_degrees: float = Field(default=0.0, ge=0.0, le=180.0)
    translation: float = Field(default=0.0, ge=0.0, le=1.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shear_degrees: float = Field(default=0.0, ge=0.0, lt=90.0)
    perspective: float = Field(default=0.0, ge=0.0, le=1.0)
    perspective_p: float = Probability
    brightness: float = Field(default=0.0, ge=0.0)
    contrast: float = Field(default=0.0, ge=0.0)
    saturation: float = Field(default=0.0, ge=0.0)
    hue: float = Field(default=0.0, ge=0.0, le=0.5)
    blur_kernel: int = Field(default=0, ge=0)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_p: float = Probability
    erasing_p: float = Probability
    erasing_area: tuple[float, float] = (0.02, 0.33)
    erasing_ratio: tuple[float, float] = (0.3, 3.3)
    cutmix_p: float = Probability
    cutmix_alpha: float = Field(default=1.0, gt=0.0)


class PinnedWeights(_Frozen):
    """Public weights of one model: timm's full name, and the SHA-256 of the file where it could be pinned."""

    tag: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class InitRules(_Frozen):
    """Where training starts."""

    kind: Literal["scratch", "imagenet"]
    weights: Mapping[str, PinnedWeights] = Field(default_factory=dict)


class OptimRules(_Frozen):
    """Optimiser and its settings, torch's names."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"]
    lr: float = Field(gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    clip_grad_norm: float | None = Field(default=None, gt=0.0)
    decay_norm_and_bias: bool = True


class ScheduleRules(_Frozen):
    """Learning rate over the training, and how long it is."""

    name: Literal["constant", "cosine", "multistep"]
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    warmup_epochs: int = Field(default=0, ge=0)
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0.0)


class LossRules(_Frozen):
    """Cross-entropy and its softening."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)


class NumericsRules(_Frozen):
    """Precision and memory format; float64 is for tests."""

    precision: Literal["fp32", "bf16", "fp64"]
    memory_format: Literal["contiguous", "channels_last"]


class Protocol(_Frozen):
    """Everything that changes a number, under a frozen name.

    The epoch is chosen by `select`: `val_auc` is the highest macro AUC on val, ties to the earlier epoch.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str
    sources: tuple[str, ...] = ()
    data: DataRules
    augment: AugmentRules = AugmentRules()
    init: InitRules
    optim: OptimRules
    schedule: ScheduleRules
    loss: LossRules = LossRules()
    numerics: NumericsRules
    select: Literal["val_auc"]

    @model_validator(mode="after")
    def _statistics_fit_the_channels(self) -> Protocol:
        lengths = {len(self.data.mean), len(self.data.std)}
        if lengths not in ({1}, {3}):
            raise ValueError("data.mean and data.std need one value for all channels, or three")
        if self.schedule.warmup_epochs >= self.schedule.epochs:
            raise ValueError("schedule.warmup_epochs must be smaller than schedule.epochs")
        augment = self.augment
        if augment.blur_kernel and (augment.blur_kernel % 2 == 0 or augment.blur_kernel > self.data.img_size):
            raise ValueError("augment.blur_kernel must be odd and no larger than data.img_size")
        for key in ("scale", "blur_sigma", "erasing_area", "erasing_ratio"):
            low, high = getattr(augment, key)
            if not 0 < low <= high:
                raise ValueError(f"augment.{key} must be two positive numbers, the smaller first")
        return self

    def digested(self) -> dict[str, Any]:
        """What the digest covers: all but name and prose, keys at their default left out."""
        return self.model_dump(mode="json", exclude={"name", "description", "sources"}, exclude_defaults=True)

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of `digested()`."""
        text = json.dumps(self.digested(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class StudyPart(_Frozen):
    """A block of runs: every combination of its lists; an optional one may lack its data without failing the study."""

    protocols: tuple[str, ...]
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...]
    optional: bool = False


class Study(_Frozen):
    """A list of runs that answers one question."""

    name: str
    question: str
    parts: tuple[StudyPart, ...] = Field(min_length=1)


Kind = TypeVar("Kind", Protocol, Study)


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at this location takes."""
    for step in location:
        if isinstance(step, int):
            continue
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return sorted(set(model.model_fields) - {"name"} if model in (Protocol, Study) else model.model_fields)


def _explain(path: Path, kind: type[BaseModel], error: ValidationError) -> ProtocolError:
    # A mistyped key is also a missing one: the mistyping is what helps.
    first = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    location = tuple(first["loc"])
    where = ".".join(str(step) for step in location) or path.stem
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        more = ["extends"] if kind is Protocol and len(location) == 1 else []
        return ProtocolError(f"{path}: unknown key {where!r}; {hint}known keys here: {', '.join([*more, *known])}")
    if first["type"] == "missing":
        return ProtocolError(f"{path}: the key {where!r} is missing")
    if where == "name":
        return ProtocolError(f"{path}: rename the file: small letters, digits and single dashes make a name")
    message = first["msg"].replace("a valid tuple", "a list")
    return ProtocolError(f"{path}: {where} = {first.get('input')!r} is refused: {message}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProtocolError(f"Cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path} is not valid TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ProtocolError(f"{path} is not valid TOML: nested too deeply, or a number is too long") from None


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's tables over those of the protocol that it extends."""
    if path in seen:
        raise ProtocolError(f"{path}: extends leads back to itself")
    content = _read_toml(path)
    parent = content.pop("extends", None)
    if parent is None:
        return content
    parent_path = _find(str(parent), PROTOCOL_DIR, "protocol", beside=path.parent)
    return _merge(_resolve(parent_path, (*seen, path)), content)


def _find(name: str, folder: Path, word: str, beside: Path | None = None) -> Path:
    """A name of the folder, a file beside the one that names it, or a path that ends in .toml."""
    if name.endswith(".toml"):
        return Path(name)
    for place in (folder, beside):
        if place is not None and (place / f"{name}.toml").exists():
            return place / f"{name}.toml"
    known = sorted(file.stem for file in folder.glob("*.toml"))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    raise ProtocolError(f"Unknown {word} {name!r}; {hint}")


def _load(kind: type[Kind], path: Path, content: dict[str, Any]) -> Kind:
    try:
        return kind.model_validate({**content, "name": path.stem})
    except ValidationError as error:
        raise _explain(path, kind, error) from None


@cache
def load_protocol(name: str) -> Protocol:
    """Load a protocol by name, or by the path of a TOML file, which is then known by its name too.

    Raises:
        ProtocolError: If it is unknown, is not valid TOML, has an unknown, missing or refused key, or has the
            name of another one.
    """
    if name in _by_path:
        return _by_path[name]
    path = _find(name, PROTOCOL_DIR, "protocol")
    protocol = _load(Protocol, path, _resolve(path))
    if path.parent != PROTOCOL_DIR:
        known = _by_path.setdefault(protocol.name, protocol)
        if known != protocol or (PROTOCOL_DIR / path.name).exists():
            raise ProtocolError(f"{path}: the name {protocol.name!r} is taken by another protocol; rename the file")
    return protocol


_by_path: dict[str, Protocol] = {}


@cache
def load_study(name: str) -> Study:
    """Load a study by name, or by the path of a TOML file.

    Raises:
        ProtocolError: As `load_protocol`; also if it names an unknown protocol.
    """
    path = _find(name, STUDY_DIR, "study")
    study = _load(Study, path, _read_toml(path))
    for part in study.parts:
        for protocol in part.protocols:
            load_protocol(protocol)
    return study


def list_protocols() -> list[str]:
    """Names of the protocols that come with the suite, sorted."""
    return sorted(file.stem for file in PROTOCOL_DIR.glob("*.toml"))


def list_studies() -> list[str]:
    """Names of the studies that come with the suite, sorted."""
    return sorted(file.stem for file in STUDY_DIR.glob("*.toml"))

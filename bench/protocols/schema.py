"""What a protocol and a study say: rules, frozen and digested.

The digest leaves out every key that stands at its default, and a key that is added later gets "as before" as its
default, so a new key makes no old record stale.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Field(default=0.0, ge=0.0, le=1.0)
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
MAX_SEED = 2**32 - 1  # what NumPy and scikit-learn take


def slug(text: str) -> str:
    """A text as a name in lower case, whatever is no letter or digit as a hyphen: `resnet18-28` of `resnet18_28`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Frozen(BaseModel):
    """A table of a file: no unknown key, no change after the fact, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataRules(Frozen):
    """Which pixels reach the model.

    Of train, `positive_share` thins the clinical positives until they are that share of what is left, and
    `train_per_class` keeps so many images of each class; which ones says `draw` (`bench.runs.subset`). The sampler
    `balanced` takes every class equally often, with replacement.
    """

    source_size: Literal[28, 64, 128, 224]
    img_size: int = Field(ge=1)
    interpolation: Literal["nearest", "bilinear"]
    channels: Literal["native", "rgb"]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0.0)], ...]
    max_train: int | None = Field(default=None, ge=2)
    positive_share: float | None = Field(default=None, gt=0.0, lt=1.0)
    train_per_class: int | None = Field(default=None, ge=1)
    draw: int = Field(default=0, ge=0)
    sampler: Literal["shuffled", "balanced"] = "shuffled"

    @model_validator(mode="after")
    def _one_subset(self) -> DataRules:
        if sum(key is not None for key in (self.max_train, self.positive_share, self.train_per_class)) > 1:
            raise ValueError("max_train, positive_share and train_per_class each choose the training images; give one")
        return self


class AugmentRules(Frozen):
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


class PinnedWeights(Frozen):
    """Public weights of one model: timm's full name, and the SHA-256 of their tensors where it could be pinned."""

    tag: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class InitRules(Frozen):
    """Where training starts."""

    kind: Literal["scratch", "imagenet"]
    weights: Mapping[str, PinnedWeights] = Field(default_factory=dict)


class OptimRules(Frozen):
    """Optimiser and its settings, torch's names."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"]
    lr: float = Field(gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    clip_grad_norm: float | None = Field(default=None, gt=0.0)
    decay_norm_and_bias: bool = True


class ScheduleRules(Frozen):
    """Learning rate over the training, and how long it is.

    `steps_of`: an epoch is one pass over the images that are trained on (`subset`), or as many steps as the whole
    training split takes, however few of its images are left (`split`), so that every subset gets the same steps.
    """

    name: Literal["constant", "cosine", "multistep"]
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    warmup_epochs: int = Field(default=0, ge=0)
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0.0)
    steps_of: Literal["subset", "split"] = "subset"


class LossRules(Frozen):
    """Cross-entropy, its softening, and its arms against imbalance.

    `class_weights` `balanced` weighs an image by 1 / (classes x share of its class in train), mean 1 over train;
    `logit_adjustment` is the tau of z + tau log(share), which training alone sees (Menon et al. 2021).
    """

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    class_weights: Literal["none", "balanced"] = "none"
    logit_adjustment: float = Field(default=0.0, ge=0.0)


class NumericsRules(Frozen):
    """Precision and memory format; float64 is for tests."""

    precision: Literal["fp32", "bf16", "fp64"]
    memory_format: Literal["contiguous", "channels_last"]


class TunedFor(Frozen):
    """What a recipe that was chosen by a sweep is for: a grid file's choice for one model on one data set."""

    grid: str = Field(pattern=SLUG)
    grid_digest: str = Field(pattern="^[0-9a-f]{64}$")
    base: str = Field(pattern=SLUG)
    model: str
    dataset: str = Field(pattern=SLUG)

    @property
    def protocol(self) -> str:
        """The name that the recipe has: `tuned-lite-resnet18-28-breastmnist`."""
        return f"tuned-{self.grid}-{slug(self.model)}-{self.dataset}"


def _is_none(value: object) -> bool:
    return value is None


class Protocol(Frozen):
    """Everything that changes a number, under a frozen name.

    The epoch is chosen by `select`: `val_auc` is the highest macro AUC on val, ties to the earlier epoch. With
    `score_last` the last step's weights are scored beside the chosen ones. `tuned` says what a sweep chose it for.
    """

    name: str = Field(pattern=SLUG)
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
    score_last: bool = False
    tuned: TunedFor | None = Field(default=None, exclude_if=_is_none)  # older records have no such key

    @model_validator(mode="after")
    def _tuned_under_its_name(self) -> Protocol:
        if self.tuned and self.name != self.tuned.protocol:
            raise ValueError(f"[tuned] belongs to the protocol {self.tuned.protocol}; extend {self.tuned.base} instead")
        return self

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
        """What the digest covers: all but name, prose and what it was tuned for, keys at their default left out."""
        return self.model_dump(mode="json", exclude={"name", "description", "sources", "tuned"}, exclude_defaults=True)

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of `digested()`."""
        text = json.dumps(self.digested(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class StudyPart(Frozen):
    """A block of runs: every combination of its lists; an optional one may lack its data without failing the study.

    With `draws` the protocols are a family's members without their draw: each is run with each draw, seed k with draw
    k. A study that was loaded has such parts spelled out, one a draw.
    """

    protocols: tuple[str, ...]
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...] = ()
    draws: tuple[Annotated[int, Field(ge=0)], ...] = ()
    optional: bool = False

    @model_validator(mode="after")
    def _seeds_or_draws(self) -> StudyPart:
        if bool(self.seeds) == bool(self.draws):
            raise ValueError("a part has seeds, or the draws of a family's members")
        return self


class Factors(Frozen):
    """What a protocol of a factorial study sets where the study's other protocols set something else."""

    optimiser: str
    augmentation: Literal["plain", "cutmix"]


Start = Literal["scratch", "imagenet", "imagenet, own normalisation"]


class Removal(Frozen):
    """What a study of a model's parts takes away: one part at a time, and all of them, which leaves the trunk."""

    whole: str
    trunk: str
    without: Mapping[str, str]  # variant -> the part that it lacks


class Study(Frozen):
    """A list of runs that answers one question; of an ablation, also what its protocols or its models vary.

    Its runs score the corruption tracks that it names.
    """

    name: str
    question: str
    parts: tuple[StudyPart, ...] = Field(min_length=1)
    factors: Mapping[str, Factors] = Field(default_factory=dict)
    removal: Removal | None = None
    starts: Mapping[str, Start] = Field(default_factory=dict)
    tracks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _what_varies_is_planned(self) -> Study:
        protocols = {name for part in self.parts for name in part.protocols}
        models = {name for part in self.parts for name in part.models}
        if self.factors and self.factors.keys() != protocols:
            raise ValueError(f"factors must be those of the study's protocols: {', '.join(sorted(protocols))}")
        if self.starts and self.starts.keys() != protocols:
            raise ValueError(f"starts must be those of the study's protocols: {', '.join(sorted(protocols))}")
        if self.removal and not {self.removal.whole, self.removal.trunk, *self.removal.without} <= models:
            raise ValueError("removal names a model that no part of the study has")
        return self

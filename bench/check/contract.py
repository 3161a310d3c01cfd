"""The contract that every network of the suite keeps: `medbench check` prints it, the tests hold it.

One row a check. A model that raises, returns something else than logits, or gives NaN is a row with `no` and
one line; nothing here ends in a traceback. All checks run on the CPU, on one thread as a run does, and leave the
caller's generators and settings alone.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from bench.check.contract_outputs import check_forward
from bench.check.contract_seeds import check_initialisation, check_seeds, check_training_step
from bench.check.contract_sizes import check_sizes, usual_size
from bench.check.contract_subject import (
    BATCH,
    CLASSES,
    SEED,
    Broken,
    Skipped,
    Subject,
    checked,
    error_line,
    located_line,
    logits,
)
from bench.machine.foreign import Pinned, cast, restored, seed_generators
from models import ModelError, get_spec

# Norm of the difference as a share of the logits' norm: float32 sums in another order; bfloat16 keeps 8 bits.
FLOAT32_TOLERANCE = 1e-3
BFLOAT16_TOLERANCE = 0.2
# A gradient below this share of the largest one, in float64, is rounding and no gradient.
GRADIENT_FLOOR = 1e-12
GRADIENT_ATTEMPTS = 3


ANY_PX = 10**6
ONE_KEY = "a softmax over one key is 1"
KEY_SHIFT = "a softmax over keys ignores what is added to all of them"
# Parameters that cannot get a gradient: model, parameter (shell patterns), up to which pixels, why; last one counts.
EXEMPT = (
    ("medvit_*", "features.*.e_mhsa.k.bias", ANY_PX, KEY_SHIFT),
    ("medvit_*", "features.6.e_mhsa.[qk].*", 40, ONE_KEY),
    ("medvit_*", "features.*.e_mhsa.[qk].*", 32, ONE_KEY),
    ("swin_t", "layers.3.*.relative_position_bias_table", 35, ONE_KEY),
    ("efficientformerv2_*", "stages.*.k.conv.bias", ANY_PX, KEY_SHIFT),
    ("efficientformerv2_*", "stages.*.k.bn.bias", ANY_PX, KEY_SHIFT),
    ("efficientformerv2_*", "stages.*.talking_head1.bias", ANY_PX, KEY_SHIFT),
    ("medspectralnet*", "flow[12].filter.*", 64, "a filter whose weights sum to 1 keeps the mean of a 2x2 map"),
    ("medspectralnet*", "*filter.*", 32, "a 1x1 map gives the filter nothing to weigh"),
)


def _close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> str:
    actual, expected = actual.double(), expected.double()
    apart = float((actual - expected).norm() / expected.norm().clamp_min(1e-12))
    if not apart <= tolerance:
        raise Broken(f"{what} differ by {apart:.1e} of their norm; {tolerance:g} is allowed")
    return f"{apart:.1e} of the norm; {tolerance:g} is allowed"


def check_one_channel(subject: Subject) -> str:
    """A model that can be built for one channel takes one."""
    try:
        model = subject.build(in_chans=1)
    except ModelError as error:
        raise Skipped(f"refuses one channel: {error_line(error)}") from None
    logits(model, subject.x_BCHW[:, :1])
    return "runs"


def check_determinism(subject: Subject) -> str:
    """Two calls in eval mode are bit-equal."""
    if not torch.equal(logits(subject.model, subject.x_BCHW), logits(subject.model, subject.x_BCHW)):
        raise Broken("two calls in eval mode differ")
    return "two calls are bit-equal"


def check_batch(subject: Subject) -> str:
    """In eval mode an image's logits depend neither on the batch's size nor on its other images."""
    together = logits(subject.model, subject.x_BCHW)[:1]
    beside = logits(subject.model, torch.cat([subject.x_BCHW[:1], 3 * subject.x_BCHW[1:].flip(0)]))[:1]
    _close(beside, together, FLOAT32_TOLERANCE, "an image's logits beside other images")
    return _close(logits(subject.model, subject.x_BCHW[:1]), together, FLOAT32_TOLERANCE, "logits alone and in a batch")


def check_channels_last(subject: Subject) -> str:
    """Channels_last equals contiguous."""
    model = cast(subject.twin(), torch.float32, torch.channels_last)
    actual = logits(model, subject.x_BCHW.to(memory_format=torch.channels_last))
    return _close(actual, logits(subject.model, subject.x_BCHW), FLOAT32_TOLERANCE, "logits in channels_last")


def check_autocast(subject: Subject) -> str:
    """Autocast to bfloat16 stays near float32."""
    model = cast(subject.twin(), torch.float32, torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = logits(model, subject.x_BCHW.to(memory_format=torch.channels_last))
    return _close(actual, logits(subject.model, subject.x_BCHW), BFLOAT16_TOLERANCE, "logits in bfloat16")


def check_state_dict(subject: Subject) -> str:
    """Weights that are saved and loaded, with weights_only, make another model, already in use, bit-equal."""
    other = subject.build(seed=SEED + 1)
    logits(other, subject.x_BCHW)
    file = io.BytesIO()
    torch.save(subject.model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(logits(other, subject.x_BCHW), logits(subject.model, subject.x_BCHW)):
        raise Broken("the logits change when the weights are saved and loaded: some state is not in the state dict")
    return "bit-equal after torch.save and load"


def check_backward(subject: Subject) -> str:
    """In training mode the gradients are finite and no parameter is left without one."""
    model = subject.twin()
    seed_generators(SEED)
    output = checked(model(subject.x_BCHW), BATCH, CLASSES)
    nn.functional.cross_entropy(output, torch.arange(BATCH)).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise Broken(f"{name} takes no part in the forward pass: it has no gradient")
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise Broken(f"the gradient of {name} is not finite")
    return "all gradients finite"


def check_gradients(subject: Subject) -> str:
    """Every parameter has a gradient above rounding once norm weights are redrawn, or is listed with a reason."""
    rules = [rule for rule in EXEMPT if fnmatchcase(subject.name, rule[0]) and subject.img_size <= rule[2]]
    names = [name for name, _ in subject.model.named_parameters()]
    listed = {name: rule[3] for name in names for rule in rules if fnmatchcase(name, rule[1])}
    dead = dead_parameters(subject.twin(), subject.x_BCHW.double(), set(listed))
    unlisted = sorted(dead - set(listed))
    if unlisted:
        raise Broken(f"{len(unlisted)} parameters get no gradient: {', '.join(unlisted[:3])}")
    if set(listed) - dead:
        raise Broken(f"{min(set(listed) - dead)} gets a gradient, though it is listed as one that cannot")
    reasons = Counter(listed.values())
    return "; ".join(f"{number} cannot: {reason}" for reason, number in reasons.items()) or "every parameter has one"


def dead_parameters(model: nn.Module, x_BCHW: Tensor, expected: set[str]) -> set[str]:
    """Parameters whose gradient is rounding in every attempt, until only expected ones are left; changes the model.

    In float64 and in eval mode: there a batch norm is an affine map that does not subtract what a bias before
    it adds, and nothing is dropped. The first attempt redraws the norms' weights. The others redraw all vectors
    and the images too: a ReLU that is off for a whole batch, or a layer scale of 1e-6, is chance, not structure.
    """
    cast(model, torch.float64, torch.contiguous_format)
    generator = torch.Generator().manual_seed(SEED)
    targets = torch.arange(len(x_BCHW))
    dead = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for attempt in range(GRADIENT_ATTEMPTS):
        with torch.no_grad():
            for parameter, is_norm in _vectors(model):
                values = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                if is_norm:
                    values.uniform_(0.5, 1.5, generator=generator)
                elif attempt:
                    values.uniform_(-0.5, 0.5, generator=generator)
        if attempt:
            x_BCHW = torch.randn(x_BCHW.shape, generator=generator, dtype=torch.float64)
        _measure_norms(model, x_BCHW)
        model.zero_grad(set_to_none=True)
        output = checked(model.eval()(x_BCHW), len(x_BCHW), CLASSES)
        nn.functional.cross_entropy(output, targets).backward()  # type: ignore[no-untyped-call]
        sizes = {key: 0.0 if p.grad is None else float(p.grad.abs().max()) for key, p in model.named_parameters()}
        floor = GRADIENT_FLOOR * max(sizes.values())
        dead = {key for key in dead if not sizes[key] > floor}
        if dead <= expected:
            break
    return dead


@torch.no_grad()
def _measure_norms(model: nn.Module, x_BCHW: Tensor) -> None:
    """Give batch norms the statistics of these images, without which deep models explode in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    model.train()(x_BCHW)


def _vectors(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Parameters with one axis longer than 1, and whether each is a norm's weight."""
    for module in model.modules():
        is_norm = "Norm" in type(module).__name__
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.numel() == max(parameter.shape, default=1):
                yield parameter, is_norm and key == "weight"


def check_num_params(subject: Subject) -> str:
    """The claimed number of parameters is the counted one (8 classes, 3 channels, 224 px)."""
    claimed = subject.spec.num_params
    if claimed is None:
        raise Skipped("the spec claims no number")
    try:
        with torch.device("meta"):
            model = subject.build(num_classes=8, img_size=224)
    except (NotImplementedError, ModelError):  # what cannot be built without numbers
        model = subject.build(num_classes=8, img_size=224)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if counted != claimed:
        raise Broken(f"num_params claims {claimed:,}, counted {counted:,}")
    return f"{counted:,}"


def check_compile(subject: Subject) -> str:
    """torch.compile equals eager."""
    model = subject.twin().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own; they say nothing of the model
        model.compile(dynamic=False)
        actual = logits(model, subject.x_BCHW)
    torch._dynamo.reset()
    return _close(actual, logits(subject.model, subject.x_BCHW), FLOAT32_TOLERANCE, "compiled and eager logits")


FIRST = "forward"
CHECKS: dict[str, Callable[[Subject], str]] = {
    FIRST: check_forward,
    "sizes": check_sizes,
    "one channel": check_one_channel,
    "eval determinism": check_determinism,
    "batch independence": check_batch,
    "channels_last": check_channels_last,
    "autocast": check_autocast,
    "state dict": check_state_dict,
    "initialisation": check_initialisation,
    "seeds": check_seeds,
    "backward": check_backward,
    "training step": check_training_step,
    "gradients": check_gradients,
    "num_params": check_num_params,
}


def check_model(name: str, *, img_size: int | None = None, slow: bool = False) -> list[dict[str, str]]:
    """Run the contract on a registered model.

    Without a forward pass nothing else can be said of a model: the other checks are one row then. An error that an
    earlier check met is not told again.

    Args:
        name: A registered name, or `timm/<architecture>`.
        img_size: Height and width of the images, in pixels; 64, or the smallest above it that the model takes, if None.
        slow: Compile too, which takes a minute.

    Returns:
        Rows with the keys `model`, `check`, `holds` (`yes`, `no` or `skipped`) and `detail` (one line).

    Raises:
        ModelError: If no such model is registered.
    """
    spec = get_spec(name)
    if spec.kind != "network":
        return [_row(name, "contract", "skipped", "fitted, not trained: exempt")]
    with restored(), Pinned() as pinned:
        try:
            subject = Subject(name, usual_size(spec) if img_size is None else img_size)
        except (Exception, SystemExit) as error:
            return [_row(name, "build", "no", located_line(error, spec.file))]
        return list(_rows(subject, {**CHECKS, "torch.compile": check_compile} if slow else CHECKS, pinned))


def _rows(subject: Subject, checks: Mapping[str, Callable[[Subject], str]], pinned: Pinned) -> Iterator[dict[str, str]]:
    """A row for each check that can be made, in order."""
    met: dict[str, str] = {}  # the check that met an error first
    for check, function in checks.items():
        try:
            detail = function(subject)
            pinned.check_threads()
            yield _row(subject.name, check, "yes", detail)
        except Skipped as reason:
            yield _row(subject.name, check, "skipped", error_line(reason))
        except (Exception, SystemExit) as error:
            detail = located_line(error, subject.spec.file)
            if detail in met:
                yield _row(subject.name, check, "skipped", f"fails as {met[detail]} does")
                continue
            met[detail] = check
            yield _row(subject.name, check, "no", detail)
            if check == FIRST:
                rest = f"{len(checks) - 1} more checks need a forward pass that holds; mend it, then check again"
                yield _row(subject.name, "the others", "skipped", rest)
                return
        finally:
            pinned.hold()


def _row(model: str, check: str, holds: str, detail: str) -> dict[str, str]:
    return {"model": model, "check": check, "holds": holds, "detail": detail}

"""What a model executes while it is counted: every operator, and whether a counter covers it.

A `Scope` follows which modules are running; a `Ledger` sees every operator below them. Only shapes matter, so the
selective scan is not executed: its loop would cost time, and ptflops would count pieces of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import models.selective_scan  # noqa: F401  (registers the operator)

with warnings.catch_warnings():  # thop asks distutils for its version check
    warnings.simplefilter("ignore")
    from ptflops.pytorch_ops import MODULES_MAPPING as PTFLOPS_RULES
    from thop.profile import count_relu, register_hooks, zero_ops

THOP_RULES = {kind: rule for kind, rule in register_hooks.items() if not issubclass(kind, nn.Sequential)}
THOP_ZERO_RULES = (zero_ops, count_relu)  # rules that always give 0
ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
HIDDEN_VIEWS = ("_unsafe_view", "_reshape_alias", "as_strided_", "lift_fresh")  # views that are not marked as such
SCAN = torch.ops.medbench.selective_scan


def scan_flops(u_shape: list[int], delta_shape: list[int], A_shape: list[int], *_: Any, **__: Any) -> int:
    """FLOPs of a selective scan, 9 L D N + L D a sample, D the rows of all directions together.

    Source: the count that implementations of Mamba for images commonly use (for a time-parallel scan; the plain
    recurrence needs 5 L D N + L D). Shapes: u and delta (Z, D, L), A (D, N).
    """
    batch, rows, length = u_shape
    return batch * length * rows * (9 * A_shape[1] + 1)


@dataclass
class Scope:
    """Where a model is: the types of the modules that are running, outermost first, and replaced functions."""

    modules: list[type[nn.Module]] = field(default_factory=list)
    functions: int = 0

    def attach(self, model: nn.Module) -> None:
        """Follow a model; its copy is thrown away afterwards, hooks and all."""
        for module in model.modules():
            module.register_forward_pre_hook(lambda module, _: self.modules.append(type(module)), prepend=True)
            module.register_forward_hook(lambda *_: self._leave())

    def _leave(self) -> None:
        self.modules.pop()

    def covered_by_thop(self) -> bool:
        """Whether thop counts what runs now; it does not look into a module that has a rule of its own."""
        ruled = [kind for kind in self.modules if kind in THOP_RULES]
        return len(ruled) == 1 and THOP_RULES[ruled[0]] not in THOP_ZERO_RULES

    def covered_by_ptflops(self) -> bool:
        """Whether ptflops counts what runs now: a replaced function, or the one module with a rule."""
        return self.functions > 0 or sum(kind in PTFLOPS_RULES for kind in self.modules) == 1


@dataclass(frozen=True)
class Kind:
    """Uses of one operator that are alike: its name, whether `aten` has a formula, whether the scope covers it."""

    name: str
    has_formula: bool
    covered: bool


@dataclass
class Use:
    """How often an operator ran, what it returned, and its FLOPs by `aten`'s formula."""

    calls: int = 0
    output_elements: int = 0
    flops: int = 0


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operator that a model executes, on shapes alone for the scan.

    Args:
        formulas: Operator -> FLOP formula, FlopCounterMode's table.
        scope: Says whether the model is running, and in what.
        covered: Whether the counter in question covers what runs now.
    """

    def __init__(self, formulas: dict[Any, Callable[..., int]], scope: Scope, covered: Callable[[], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.formulas, self.scope, self.covered = formulas, scope, covered
        self.uses: dict[Kind, Use] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and write it down."""
        packet, kwargs = func.overloadpacket, kwargs or {}
        out = _hollow(func, args) if packet is SCAN else func(*args, **kwargs)
        if self.scope.modules and not _computes_nothing(func):
            formula = self.formulas.get(packet)
            use = self.uses.setdefault(Kind(_name(func), formula is not None, self.covered()), Use())
            use.calls += 1
            use.output_elements += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            use.flops += formula(*args, **kwargs, out_val=out) if formula else 0
        return out

    def select(self, chosen: Callable[[Kind], bool]) -> dict[str, Use]:
        """Uses of the chosen kinds by operator, most output elements first."""
        total: dict[str, Use] = {}
        for kind, use in self.uses.items():
            if chosen(kind):
                sum_ = total.setdefault(kind.name, Use())
                sum_.calls += use.calls
                sum_.output_elements += use.output_elements
                sum_.flops += use.flops
        return dict(sorted(total.items(), key=lambda item: (-item[1].output_elements, item[0])))


def _name(func: Any) -> str:
    return str(func.overloadpacket).removeprefix("aten.").removeprefix("medbench.")


def _computes_nothing(func: Any) -> bool:
    """Views and allocations."""
    return bool(func.is_view) or _name(func) in ALLOCATIONS + HIDDEN_VIEWS


def _hollow(func: Any, args: tuple[Any, ...]) -> Any:
    """Zeros of the shapes that an operator returns; on real tensors its loop would only cost time."""

    def zeros(like: Tensor, device: torch.device) -> Tensor:
        return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device).zero_()

    device = next(leaf.device for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
    shapes = func(*tree_map_only(Tensor, lambda tensor: tensor.to("meta"), args))
    return shapes if device.type == "meta" else tree_map_only(Tensor, lambda like: zeros(like, device), shapes)

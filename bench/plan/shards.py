"""`--shard 2/8`: every eighth run of a plan, so that an array of jobs shares it without talking to each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from bench.errors import BenchError

Item = TypeVar("Item")
SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def take_shard(items: Sequence[Item], shard: str) -> list[Item]:
    """The part of a plan that a shard does; neighbours in the plan go to different shards.

    The parts depend on the selection alone, never on what is done already: together they are the whole plan.

    Args:
        items: All planned runs, in the plan's order.
        shard: `i/n` with 1 <= i <= n; "" for all.

    Raises:
        BenchError: If it is no such fraction.
    """
    if not shard:
        return list(items)
    match = SHARD.fullmatch(shard)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise BenchError(f"--shard {shard[:40]!r} is refused; write i/n with 1 <= i <= n, for instance 2/8")
    return list(items[index - 1 :: count])

"""Order in which workers take shards: the neighbour of the last one, whose blocks are decoded already."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence


class ShardOrder:
    """Shards for workers, each of which begins at another place and continues from there.

    Shards are ranges of rows, and the blocks of an image are often higher. Taken in order, every worker would
    decode every block.
    """

    def __init__(self, indices: Sequence[int], workers: int) -> None:
        size, longer = divmod(len(indices), workers)
        ends = [number * size + min(number, longer) for number in range(workers + 1)]
        self._strands = [deque(indices[begin:end]) for begin, end in itertools.pairwise(ends)]

    def take(self, worker: int) -> int | None:
        """Return the next shard of a worker, else the last of the longest queue; None at the end."""
        own = self._strands[worker]
        if own:
            return own.popleft()
        longest = max(self._strands, key=len)
        return longest.pop() if longest else None

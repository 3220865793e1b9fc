"""Which shard a worker takes next: the neighbour of its last one, whose blocks it has decoded already."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence


class ShardOrder:
    """Shards for workers, each of which begins at a place of its own and goes on from there.

    Shards are stretches of rows, and the blocks of an image are often higher. Taken as they come, every
    worker would decode every block.
    """

    def __init__(self, indices: Sequence[int], workers: int) -> None:
        size, longer = divmod(len(indices), workers)
        ends = [number * size + min(number, longer) for number in range(workers + 1)]
        self._strands = [deque(indices[begin:end]) for begin, end in itertools.pairwise(ends)]

    def take(self, worker: int) -> int | None:
        """The next shard of its own, else the last of whoever has most left; None if nobody has any."""
        own = self._strands[worker]
        if own:
            return own.popleft()
        longest = max(self._strands, key=len)
        return longest.pop() if longest else None

"""Order in which workers take shards."""

from hypothesis import given
from hypothesis import strategies as st

from flows.shard_order import ShardOrder


def test_workers_begin_apart_and_go_on_to_the_neighbour():
    turns = ShardOrder(range(8), 2)
    assert [turns.take(worker) for worker in (0, 1, 1, 0)] == [0, 4, 5, 1]


def test_who_is_done_takes_the_last_of_the_one_with_most_left():
    turns = ShardOrder([1, 2, 5, 6, 7], 2)
    assert [turns.take(1) for _ in range(3)] == [6, 7, 5]
    assert [turns.take(0) for _ in range(3)] == [1, 2, None]


def test_more_workers_than_shards():
    turns = ShardOrder([3], 4)
    assert [turns.take(worker) for worker in range(4)] == [3, None, None, None]


@given(st.lists(st.integers(0, 99), unique=True), st.integers(1, 5), st.randoms())
def test_every_shard_is_taken_once_whoever_asks(indices, workers, chance):
    turns = ShardOrder(sorted(indices), workers)
    taken = [turns.take(chance.randrange(workers)) for _ in range(len(indices) + 1)]
    assert taken[-1] is None
    assert sorted(taken[:-1]) == sorted(indices)

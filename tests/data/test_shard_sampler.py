"""The order of training pictures in shards."""

from itertools import pairwise

import numpy as np
import pytest

from product_cls.data.samplers import EpochSampler, ShardSampler, shards_in_use

SHARDS = np.repeat(np.arange(20), 10)[np.random.default_rng(0).permutation(200)]
OFFSETS = np.random.default_rng(1).permutation(200)


def sampler(
    *, window: int = 30, shuffle: bool = True, seed: int = 0, rank: int = 0, world_size: int = 1
) -> tuple[ShardSampler, list[int]]:
    fetched: list[int] = []
    shard_sampler = ShardSampler(
        SHARDS,
        OFFSETS,
        window=window,
        fetch=fetched.append,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    return shard_sampler, fetched


def positions(order: EpochSampler, epoch: int = 0) -> list[int]:
    order.set_epoch(epoch)
    drawn = list(order)
    assert {e for _, e in drawn} == {epoch} and len(drawn) == len(order)
    return [position for position, _ in drawn]


def test_every_picture_once_in_an_order_that_depends_on_seed_and_epoch() -> None:
    orders = [positions(sampler(seed=seed)[0], epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(200)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    assert positions(sampler(seed=1)[0], 1) == orders[3]


@pytest.mark.parametrize("window", [1, 30, 199])
def test_few_shards_are_in_use_at_a_time(window: int) -> None:
    for epoch in range(5):
        shards = SHARDS[positions(sampler(window=window)[0], epoch)]
        used = {s: np.flatnonzero(shards == s) for s in range(20)}
        at_once = [sum(where[0] <= k <= where[-1] for where in used.values()) for k in range(200)]
        assert max(at_once) <= shards_in_use(SHARDS, window)
        if window == 30:
            assert shards_in_use(SHARDS, window) == 7 and np.mean(at_once) > 2.5


def test_neighbours_differ_between_epochs() -> None:
    together = [
        {frozenset(pair) for pair in pairwise(order)}
        for order in (positions(sampler()[0], epoch) for epoch in range(2))
    ]
    assert len(together[0] & together[1]) < 20


def test_a_window_of_all_pictures_gives_the_plain_order() -> None:
    plain = EpochSampler(200, shuffle=True, seed=4)
    assert positions(sampler(window=200, seed=4)[0], 3) == positions(plain, 3)


def test_ranks_split_the_order_of_one_process() -> None:
    alone = positions(sampler()[0], 2)
    shares = [positions(sampler(rank=rank, world_size=3)[0], 2) for rank in range(3)]
    assert [len(share) for share in shares] == [66, 66, 66]
    assert [p for triple in zip(*shares, strict=True) for p in triple] == alone[:198]
    read = [positions(sampler(shuffle=False, rank=rank, world_size=3)[0]) for rank in range(3)]
    assert sorted(p for share in read for p in share) == list(
        range(200)
    )  # none twice, none left out


def test_without_shuffling_pictures_come_in_shard_order() -> None:
    order = positions(sampler(shuffle=False)[0])
    places = [(SHARDS[k], OFFSETS[k]) for k in order]
    assert places == sorted(places)


def test_each_shard_is_requested_once_and_before_it_is_due() -> None:
    order, fetched = sampler(window=5)
    started: list[int] = []
    for position, _ in order:
        if SHARDS[position] not in started:
            started.append(int(SHARDS[position]))
        assert fetched[: len(started)] == started
        assert len(fetched) == min(len(started) + 2, 20)
    assert len(fetched) == 20

"""The order in which pictures in shards are learned from."""

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
    made = ShardSampler(
        SHARDS,
        OFFSETS,
        window=window,
        fetch=fetched.append,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    return made, fetched


def positions(made: EpochSampler, epoch: int = 0) -> list[int]:
    made.set_epoch(epoch)
    drawn = list(made)
    assert {e for _, e in drawn} == {epoch} and len(drawn) == len(made)
    return [position for position, _ in drawn]


def test_every_picture_once_in_an_order_of_seed_and_epoch_alone() -> None:
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


def test_neighbours_are_others_in_each_epoch() -> None:
    together = [
        {frozenset(pair) for pair in pairwise(order)}
        for order in (positions(sampler()[0], epoch) for epoch in range(2))
    ]
    assert len(together[0] & together[1]) < 20


def test_a_window_of_all_pictures_is_the_order_of_other_data() -> None:
    plain = EpochSampler(200, shuffle=True, seed=4)
    assert positions(sampler(window=200, seed=4)[0], 3) == positions(plain, 3)


def test_ranks_share_what_one_process_reads() -> None:
    alone = positions(sampler()[0], 2)
    shares = [positions(sampler(rank=rank, world_size=3)[0], 2) for rank in range(3)]
    assert [len(share) for share in shares] == [66, 66, 66]
    assert [p for triple in zip(*shares, strict=True) for p in triple] == alone[:198]
    read = [positions(sampler(shuffle=False, rank=rank, world_size=3)[0]) for rank in range(3)]
    assert sorted(p for share in read for p in share) == list(
        range(200)
    )  # none twice, none left out


def test_not_to_learn_from_pictures_come_as_they_lie() -> None:
    order = positions(sampler(shuffle=False)[0])
    lie = [(SHARDS[k], OFFSETS[k]) for k in order]
    assert lie == sorted(lie)


def test_each_shard_is_asked_for_once_and_before_it_is_due() -> None:
    made, fetched = sampler(window=5)
    begun: list[int] = []
    for position, _ in made:
        if SHARDS[position] not in begun:
            begun.append(int(SHARDS[position]))
        assert fetched[: len(begun)] == begun
        assert len(fetched) == min(len(begun) + 2, 20)
    assert len(fetched) == 20

"""Batches: every sample once an epoch, the same order from the same seed, and the last batch's two rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassnet.data.batches import BatchPlan, micro_batches
from glassnet.errors import ConfigError
from messages import message_of


@st.composite
def plans(draw):
    n = draw(st.integers(1, 60))
    batch_size = draw(st.integers(1, n))
    return BatchPlan(
        n, batch_size, seed=draw(st.integers(0, 2**40)), min_last=draw(st.integers(1, batch_size))
    )


@given(plans(), st.integers(0, 1000))
def test_every_sample_is_in_one_batch(plan, epoch):
    batches = plan.batches(epoch)
    assert sorted(np.concatenate(batches)) == list(range(plan.n))
    assert len(batches) == len(plan)
    assert max(len(batch) for batch in batches) == plan.capacity


@given(plans())
def test_all_but_the_last_batch_are_full_and_the_last_is_not_too_small(plan):
    sizes = [len(batch) for batch in plan.batches(0)]
    assert set(sizes[:-1]) <= {plan.batch_size}
    assert sizes[-1] >= plan.min_last


@pytest.mark.parametrize(
    ("n", "min_last", "sizes"),
    [(10, 1, [3, 3, 3, 1]), (10, 2, [3, 3, 4]), (11, 2, [3, 3, 3, 2]), (9, 3, [3, 3, 3]), (3, 1, [3])],
)
def test_last_batch_is_kept_or_joins_the_one_before(n, min_last, sizes):
    assert [len(batch) for batch in BatchPlan(n, 3, min_last=min_last).batches(0)] == sizes


def test_order_depends_on_seed_and_epoch_alone():
    plan = BatchPlan(100, 7, seed=3)
    late = plan.order(5)
    plan.order(0)
    np.testing.assert_array_equal(plan.order(5), late)
    np.testing.assert_array_equal(BatchPlan(100, 20, seed=3).order(5), late)
    assert not np.array_equal(plan.order(6), late)
    assert not np.array_equal(BatchPlan(100, 7, seed=4).order(5), late)


def test_order_is_the_one_of_saved_runs():
    assert BatchPlan(10, 3, seed=1).order(2).tolist() == [8, 5, 6, 0, 9, 1, 4, 3, 7, 2]


def test_without_shuffle_the_order_is_that_of_the_data():
    batches = BatchPlan(7, 3, seed=1, shuffle=False).batches(4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_micro_batches_are_the_batch_in_order_and_nearly_equal():
    batch = np.arange(10, 17)
    parts = micro_batches(batch, 3)
    np.testing.assert_array_equal(np.concatenate(parts), batch)
    assert [len(part) for part in parts] == [3, 2, 2]


def test_a_small_batch_has_no_empty_micro_batches():
    assert [part.tolist() for part in micro_batches(np.array([8, 9]), 4)] == [[8], [9]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0."),
        (
            {"batch_size": 11},
            "batch_size is 11, but there are only 10 samples. Use batch_size=10 or less.",
        ),
        ({"min_last": 0}, "min_last must lie between 1 and the batch size 4, got 0."),
        ({"min_last": 5}, "min_last must lie between 1 and the batch size 4, got 5."),
        ({"seed": -1}, "seed must be 0 or more, got -1."),
    ],
)
def test_impossible_plans_are_refused(settings, message):
    assert message_of(ConfigError, BatchPlan, **{"n": 10, "batch_size": 4} | settings) == message


def test_no_part_is_no_cut():
    message = message_of(ConfigError, micro_batches, np.arange(3), 0)
    assert message == "A batch is cut in 1 part or more, got 0."


LABELS = np.repeat([0, 1, 3], [40, 7, 3])


def test_a_balanced_epoch_takes_as_many_of_each_class():
    plan = BatchPlan(50, 8, seed=2, balance=LABELS)
    one_less, seen = set(), set()
    for epoch in range(20):
        order = plan.order(epoch)
        counts = np.bincount(LABELS[order], minlength=4)
        seen |= set(order.tolist())
        assert len(order) == 50 and counts[2] == 0 and sorted(counts[[0, 1, 3]]) == [16, 17, 17]
        one_less |= {label for label in (0, 1, 3) if counts[label] == 16}
        for label in (1, 3):  # all before any of them comes again
            times = np.bincount(order, minlength=50)[label == LABELS]
            assert times.max() - times.min() <= 1
        assert np.bincount(order, minlength=50)[:40].max() == 1
    assert one_less == {0, 1, 3} and len(seen) == 50
    np.testing.assert_array_equal(BatchPlan(50, 10, seed=2, balance=LABELS).order(5), plan.order(5))
    assert not np.array_equal(plan.order(5), plan.order(6))


def test_classes_are_mixed_within_a_balanced_epoch():
    firsts = [BatchPlan(50, 10, seed=seed, balance=LABELS).batches(0)[0] for seed in range(20)]
    assert all(len(set(LABELS[first])) > 1 for first in firsts)


def test_more_classes_than_samples_have_none_twice():
    order = BatchPlan(3, 3, balance=np.array([5, 6, 7])).order(0)
    assert sorted(order.tolist()) == [0, 1, 2]

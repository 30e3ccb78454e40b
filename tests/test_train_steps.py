"""One step and many, on the reference backend: shares, accumulation, clipping, rates, and golden losses."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import glassnet as gn
from glassnet.data import load
from glassnet.data.batches import BatchPlan
from glassnet.train import Callback
from glassnet.train.batch import Part
from glassnet.train.stepper import Clip, ReferenceStepper
from oracles import oracle

DATA = load("digits")
GOLDEN = [
    4.4812595,
    4.0076891,
    2.9295188,
    2.6235727,
    2.3459876,
    2.2709287,
    2.2789281,
    1.9800202,
    2.0070297,
    2.0087731,
]


class Steps(Callback):
    """Remembers every step's record."""

    def __init__(self):
        self.records = []

    def on_step(self, training, record):
        self.records.append(record)


def convolutional(dtype=np.float64, seed=0):
    net = gn.Sequential(
        [
            gn.Conv2d(4, 3, padding="same"),
            gn.BatchNorm2d(),
            gn.ReLU(),
            gn.MaxPool2d(2),
            gn.Flatten(),
            gn.Dropout(0.2),
            gn.Linear(10),
        ],
        input_shape=(8, 8, 1),
        seed=seed,
    )
    return net.as_dtype(dtype)


def linear(dtype=np.float64):
    return gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1)).as_dtype(dtype)


def some(n):
    """A data set of the first n training digits, nothing held out."""
    return gn.data.from_arrays(DATA.train.images[:n], DATA.train.labels[:n], classes=DATA.classes)


def trained(net, data, **settings):
    """(records of the steps, weights) after training without a hold-out."""
    steps = Steps()
    gn.fit(
        net, data, **{"epochs": 1, "val_fraction": 0, "backend": "reference", "callbacks": [steps]} | settings
    )
    return steps.records, net.store.snapshot()


def test_golden_losses():
    net = gn.Sequential(
        [gn.Conv2d(4, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)],
        input_shape=(8, 8, 1),
        seed=1,
    )
    steps, _ = trained(net, DATA, optimizer=gn.SGD(lr=0.05, momentum=0.9), seed=1, batch_size=32)
    np.testing.assert_allclose([record.loss for record in steps[:10]], GOLDEN, rtol=1e-5)


def test_same_seed_same_bits_and_another_seed_others():
    first, second, third = (
        trained(convolutional(np.float32, seed), DATA, seed=seed)[1] for seed in (3, 3, 4)
    )
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert any(first[name].tobytes() != third[name].tobytes() for name in first)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    def net():  # no batch statistics, which are those of each part
        layers = [gn.Conv2d(4, 3), gn.ReLU(), gn.Flatten(), gn.Dropout(0.3), gn.Linear(10)]
        return gn.Sequential(layers, input_shape=(8, 8, 1)).as_dtype(np.float64)

    settings = {
        "optimizer": gn.SGD(lr=0.05, momentum=0.9),
        "loss": gn.SoftmaxCrossEntropy(class_weights=np.linspace(0.5, 2, 10).tolist()),
        "sample_weight": np.linspace(0.1, 3, 101),
        "clip_norm": 1.0,
    }
    whole_steps, whole = trained(net(), some(101), **settings)
    parts_steps, parts = trained(net(), some(101), accumulate=5, **settings)
    assert [r.loss for r in parts_steps] == pytest.approx([r.loss for r in whole_steps], rel=1e-12)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-11, atol=1e-14)


def test_accumulation_moves_running_statistics_part_by_part():
    net = gn.Sequential([gn.BatchNorm2d(), gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    data = some(40)
    trained(net, data, batch_size=40, accumulate=2)
    expected = 0.0
    for part in np.array_split(BatchPlan(40, 40).order(0), 2):
        expected += 0.1 * (data.train.inputs(part).mean() - expected)
    assert net["batchnorm2d_1"].running_mean[0] == pytest.approx(expected, rel=1e-4)


def test_the_last_partial_batch_is_divided_by_its_own_size():
    data, net = some(50), linear()
    before = net.store.snapshot()
    steps, _ = trained(net, data, batch_size=32, optimizer=gn.SGD(lr=1e-12))
    assert [record.samples for record in steps] == [32, 18]
    left = data.train[BatchPlan(50, 32).order(0)[32:]]
    scores = left.inputs().reshape(18, -1).astype(np.float64) @ before["linear_1.weight"]
    cross_entropy = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(18), left.labels]
    assert steps[1].loss == pytest.approx(cross_entropy.mean(), rel=1e-9)


def test_a_last_batch_too_small_for_batch_norm_joins_the_one_before():
    net = gn.Sequential([gn.Flatten(), gn.Linear(8), gn.BatchNorm2d(), gn.Linear(10)], input_shape=(8, 8, 1))
    steps, weights = trained(net, some(33), batch_size=16)
    assert [record.samples for record in steps] == [16, 17]
    assert all(np.isfinite(array).all() for array in weights.values())


@pytest.mark.parametrize(("clip_on", "samples"), [("mean", 1), ("sum", 20)])
def test_clipping_by_value_on_the_mean_and_on_the_sum(clip_on, samples):
    """With a rate of 1, plain SGD shows the clipped gradient: at most 0.01 of the mean, or of the sum."""
    data, bound = some(20), 0.01
    plain, clipped = linear(), linear()
    start = plain.store.snapshot()
    settings = {"batch_size": 20, "optimizer": gn.SGD(lr=1.0)}
    gradient = start["linear_1.weight"] - trained(plain, data, **settings)[1]["linear_1.weight"]
    _, after = trained(clipped, data, clip_value=bound, clip_on=clip_on, **settings)
    expected = np.clip(gradient * samples, -bound, bound) / samples
    assert (np.abs(gradient) > bound).any() and (np.abs(gradient) < bound / 20).any()
    np.testing.assert_allclose(start["linear_1.weight"] - after["linear_1.weight"], expected, atol=1e-12)


def test_clipping_on_the_sum_counts_sample_weights():
    """Doubling all weights doubles the summed gradient and leaves the mean's alone."""
    data, settings = some(20), {"batch_size": 20, "clip_value": 0.02, "clip_on": "sum"}
    _, one = trained(linear(), data, sample_weight=np.ones(20), **settings)
    _, double = trained(linear(), data, sample_weight=np.full(20, 2.0), **settings)
    _, tighter = trained(linear(), data, **settings | {"clip_value": 0.01})
    np.testing.assert_allclose(double["linear_1.weight"], tighter["linear_1.weight"], atol=1e-15)
    assert not np.allclose(one["linear_1.weight"], double["linear_1.weight"], atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (
            gn.SGD(lr=0.1, momentum=0.9, nesterov=True),
            lambda torch, w: torch.optim.SGD(w, lr=0.1, momentum=0.9, nesterov=True),
        ),
        (gn.Adam(lr=0.01), lambda torch, w: torch.optim.Adam(w, lr=0.01)),
    ],
)
def test_an_epoch_with_clipping_by_norm_is_that_of_torch(optimizer, make):
    torch = oracle("torch")
    data, net, bound = some(100), linear(), 2.3
    model = torch.nn.Linear(64, 10, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(net["linear_1"].weight.T))
        model.bias.zero_()
    theirs, norms = make(torch, model.parameters()), []
    for index in BatchPlan(100, 32).batches(0):
        x = torch.tensor(data.train.inputs(index).reshape(len(index), -1), dtype=torch.float64)
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(model(x), torch.tensor(data.train.labels[index])).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), bound)))
        theirs.step()
    steps, weights = trained(net, data, clip_norm=bound, optimizer=optimizer, batch_size=32)
    assert min(norms) < bound < max(norms)  # some steps are clipped and some are not
    assert [record.gradient_norm for record in steps] == pytest.approx(norms, rel=1e-9)
    ours, expected = weights["linear_1.weight"].T, model.weight.detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_clip_scale_is_that_of_clip_grad_norm():
    assert Clip(norm=1.0).scale(4.0) == 1.0 / (4.0 + 1e-6)
    assert Clip(norm=1.0).scale(0.5) == 1.0
    assert Clip(value=1.0).scale(4.0) == 1.0


def test_a_schedule_sets_the_rate_of_each_step():
    steps, _ = trained(
        linear(), some(40), batch_size=10, epochs=2, schedule=gn.schedules.Step(every=1, gamma=0.5)
    )
    assert [record.lr for record in steps] == [0.05] * 4 + [0.025] * 4
    assert [record.step for record in steps] == list(range(1, 9))
    assert [record.batch for record in steps] == [1, 2, 3, 4] * 2


def test_frozen_layers_keep_their_weights_and_count_in_no_norm():
    data, free, frozen = some(32), convolutional(), convolutional()
    frozen["conv2d_1"].freeze()
    before = frozen.store.snapshot()
    steps, after = trained(frozen, data)
    free_steps, _ = trained(free, data)
    assert (after["conv2d_1.weight"] == before["conv2d_1.weight"]).all()
    assert (after["linear_1.weight"] != before["linear_1.weight"]).any()
    assert steps[0].gradient_norm < free_steps[0].gradient_norm


def test_dropout_draws_from_the_seed_the_step_and_the_place_in_the_batch():
    net = gn.Sequential([gn.Flatten(), gn.Dropout(0.5), gn.Linear(10)], input_shape=(8, 8, 1))
    net.preprocessing = DATA.preprocessing
    index, loss = np.arange(8), net.loss
    target, share = loss.targets(DATA.train.labels[index], 10)

    def scores(seed, step, first_sample):
        stepper = ReferenceStepper(net, DATA.train, loss, gn.SGD(), seed)
        return stepper.accumulate(Part(index, target, share, first_sample), step=step)[1].tobytes()

    assert scores(1, 2, 0) == scores(1, 2, 0)
    assert len({scores(1, 2, 0), scores(2, 2, 0), scores(1, 3, 0), scores(1, 2, 8)}) == 4


def test_blas_has_one_thread_while_training():
    class Threads(Callback):
        def on_step(self, training, record):
            self.counts = counts()

    def counts():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    threads = Threads()
    with threadpool_limits(2, user_api="blas"):
        trained(linear(), some(32), callbacks=[threads])
        assert (threads.counts, counts()) == ({1}, {2})


def test_momentum_does_not_outlive_a_run():
    data = some(32)
    used, fresh = linear(), linear()
    trained(used, data, optimizer=gn.SGD(momentum=0.9))
    used.store.restore(fresh.store.snapshot())
    _, again = trained(used, data, optimizer=gn.SGD(momentum=0.9))
    _, first = trained(fresh, data, optimizer=gn.SGD(momentum=0.9))
    assert again["linear_1.weight"].tobytes() == first["linear_1.weight"].tobytes()


@pytest.mark.parametrize("loss", [gn.MeanSquaredError(), gn.BinaryCrossEntropy()])
def test_losses_without_class_numbers_get_one_hot_targets(loss):
    data = some(60)
    soft = gn.data.from_arrays(
        DATA.train.images[:60], np.eye(10)[DATA.train.labels[:60]], classes=DATA.classes
    )
    numbers, _ = trained(linear(), data, loss=loss)
    rows, _ = trained(linear(), soft, loss=loss)
    assert [record.loss for record in numbers] == [record.loss for record in rows]

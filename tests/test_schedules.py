"""Learning-rate schedules against PyTorch's schedulers and closed forms."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassnet.errors import ConfigError
from glassnet.schedules import SCHEDULES, Constant, Cosine, OneCycle, Plateau, Step, schedule_named
from glassnet.settings.config import TrainConfig
from messages import message_of
from oracles import oracle

EPOCHS, PER_EPOCH = 12, 5
STEPS = EPOCHS * PER_EPOCH


def factors(schedule, steps=STEPS, per_epoch=PER_EPOCH):
    return [schedule.factor(step, steps, per_epoch) for step in range(steps)]


def torch_factors(make, steps=STEPS):
    """The rates of a PyTorch scheduler over an optimiser of rate 1."""
    torch = oracle("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimiser step is taken here
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


def test_constant():
    assert factors(Constant()) == [1.0] * STEPS


def test_step_is_pytorch():
    expected = torch_factors(lambda s, o: s.StepLR(o, step_size=4 * PER_EPOCH, gamma=0.3))
    assert factors(Step(every=4, gamma=0.3)) == pytest.approx(expected)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_is_pytorch(floor):
    expected = torch_factors(lambda s, o: s.CosineAnnealingLR(o, T_max=STEPS, eta_min=floor))
    assert factors(Cosine(floor=floor)) == pytest.approx(expected)


def test_one_cycle_is_pytorch():
    """The same curve; PyTorch counts phases in whole steps, which differs by one step in a thousand."""
    expected = torch_factors(
        lambda s, o: s.OneCycleLR(
            o, max_lr=1.0, total_steps=1001, pct_start=0.3, final_div_factor=400, cycle_momentum=False
        ),
        1000,
    )
    assert factors(OneCycle(), 1000) == pytest.approx(expected, abs=0.006)


def test_one_cycle_by_hand():
    curve = factors(OneCycle(rise=0.5, start=0.2, floor=0.0), 8)
    up = [0.2 + 0.4 * (1 - math.cos(math.pi * i / 4)) for i in range(4)]
    down = [0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert curve == pytest.approx(up + down)


@pytest.mark.parametrize("schedule", [Constant, Cosine, Step, OneCycle])
def test_warmup_rises_in_a_line_and_joins_the_schedule(schedule):
    curve = factors(schedule(warmup=0.8))
    rest = factors(schedule(), STEPS - 4) if schedule is not Step else [1.0] * 4
    assert curve[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert curve[4:8] == pytest.approx(rest[:4])


@given(
    losses=st.lists(st.integers(1, 30).map(lambda n: 1 - n / 10_000 * 0.4), max_size=25),
    patience=st.integers(0, 3),
)
def test_plateau_is_pytorch(losses, patience):
    torch = oracle("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=2e-4, eps=0
    )
    schedule = Plateau(gamma=0.5, patience=patience, threshold=2e-4)
    for epoch, loss in enumerate(losses, 1):
        scheduler.step(loss)
        ours = schedule.factor(epoch * PER_EPOCH, STEPS, PER_EPOCH, losses[:epoch])
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


def test_schedule_by_name():
    assert schedule_named("cosine", floor=0.1, warmup=2.0) == Cosine(floor=0.1, warmup=2.0)
    assert message_of(ConfigError, schedule_named, "onecycle") == (
        "Unknown schedule 'onecycle'. Did you mean 'one_cycle'?"
    )


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Constant, {"warmup": -1}, "Constant warmup must be finite and at least 0, got -1."),
        (Cosine, {"warmup": math.nan}, "Cosine warmup must be finite and at least 0, got nan."),
        (Step, {"every": 0}, "Step every must be at least 1, got 0."),
        (Step, {"gamma": 0.0}, "Step gamma must be finite and above 0, got 0.0."),
        (Step, {"gamma": math.inf}, "Step gamma must be finite and above 0, got inf."),
        (Cosine, {"floor": -0.1}, "Cosine floor must be from 0 to 1, got -0.1."),
        (OneCycle, {"rise": 0.0}, "OneCycle rise must be above 0 and below 1, got 0.0."),
        (OneCycle, {"rise": 1.0}, "OneCycle rise must be above 0 and below 1, got 1.0."),
        (OneCycle, {"start": 2.0}, "OneCycle start must be from 0 to 1, got 2.0."),
        (OneCycle, {"floor": -1.0}, "OneCycle floor must be from 0 to 1, got -1.0."),
        (Plateau, {"gamma": -1.0}, "Plateau gamma must be above 0 and at most 1, got -1.0."),
        (Plateau, {"patience": -1}, "Plateau patience must be at least 0, got -1."),
        (Plateau, {"threshold": 1.0}, "Plateau threshold must be at least 0 and below 1, got 1.0."),
    ],
)
def test_settings_that_make_no_schedule(kind, settings, message):
    assert message_of(ConfigError, kind, **settings) == message
    name = next(name for name, known in SCHEDULES.items() if known is kind)
    assert message_of(ConfigError, TrainConfig, data="", schedule={"name": name, **settings}) == message

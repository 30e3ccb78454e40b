"""Halos, shared memory and lifetimes: where a plan puts its arrays, against brute force."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glassnet.plan.passes import memory
from glassnet.plan.passes.layout import Image, Layout, input_grad_halo, phases
from glassnet.plan.passes.memory import ALIGNMENT, plan_memory, sample_bytes
from glassnet.plan.plan import Rows, Section, Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry

SMALL = st.integers(1, 9)


@st.composite
def geometries(draw):
    pairs = st.tuples(SMALL, SMALL)
    window = Geometry(
        draw(pairs), draw(st.tuples(*[st.integers(1, 5)] * 2)), draw(st.tuples(*[st.integers(1, 5)] * 2)),
        draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(st.tuples(*[st.integers(0, 4)] * 4)),
    )  # fmt: skip
    assume(min(window.output) > 0)
    return window


def reads_of(window, axis):
    """{input position: {(kernel position, output position)}} by the formula, beyond the edges of dy too."""
    stride, dilation, pad = window.stride[axis], window.dilation[axis], window.padding[2 * axis]
    result = {}
    for h in range(window.input[axis]):
        pairs = ((u, h + pad - u * dilation) for u in range(window.kernel[axis]))
        result[h] = {(u, i // stride) for u, i in pairs if i % stride == 0}
    return result


@given(geometries(), st.sampled_from([0, 1]))
def test_phases_are_the_formula(window, axis):
    seen = {}
    for phase in phases(window, axis):
        for t in range(phase.count):
            h = phase.first + window.stride[axis] * t
            assert h not in seen
            seen[h] = {(u, tap + t) for u, tap in phase.taps}
            assert len(seen[h]) == len(phase.taps)
        outputs = [tap for _, tap in phase.taps]
        assert outputs == sorted(outputs)
        assert len({b - a for a, b in pairwise(outputs)}) <= 1  # even steps, for a tile
    assert seen == reads_of(window, axis)


@given(geometries())
def test_the_halo_of_dy_is_as_far_as_its_input_gradient_reads(window):
    wanted = []
    for axis in (0, 1):
        outputs = [i for pairs in reads_of(window, axis).values() for _, i in pairs]
        last = window.output[axis] - 1
        wanted += [max([0, *(-i for i in outputs)]), max([0, *(i - last for i in outputs)])]
    assert input_grad_halo(window) == tuple(wanted)


def conv(x, window, kind="conv2d"):
    w, y = Symbol((3, 3, 1, 1), "w", batched=False), Symbol((2, *window.output, 1), "y")
    return Operation(kind, [x, w, None], [y], settings={"geometry": window})


def test_an_image_has_the_largest_halo_that_its_readers_need():
    x = Symbol((2, 5, 6, 3), "x")
    layout = Layout([conv(x, Geometry((5, 6), (3, 3), padding=p)) for p in ((1, 0, 0, 2), (0, 2, 1, 0))])
    row = (6 + 1 + 2) * 3
    assert layout.image(x) == Image(
        at=row + 3, row=row, size=(5 + 1 + 2) * row, height=5, width=18, channels=3
    )
    assert sample_bytes(x, layout) == 4 * 8 * row


def test_a_vector_is_an_image_of_one_row():
    assert Layout([]).image(Symbol((2, 7), "v")) == Image(0, 7, 7, 1, 7, 7)
    assert Layout([]).image(Symbol((2,), "losses")) == Image(0, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_reshape_shares_memory_where_there_is_no_halo(padding):
    x, flat = Symbol((2, 5, 6, 3), "x"), Symbol((2, 90), "flat")
    reshape = Operation("reshape", [x], [flat])
    layout = Layout([reshape, conv(x, Geometry((5, 6), (3, 3), padding=(padding,) * 4))])
    assert layout.same_memory(reshape) == (padding == 0)
    assert (layout.home(flat) is x) == (padding == 0)


def test_what_works_in_place_has_the_halo_that_its_result_needs():
    dy, y, masked = (Symbol((2, 5, 6, 1), name) for name in ("dy", "y", "masked"))
    mask = Operation("relu_mask", [dy, y], [masked])
    layout = Layout([mask, conv(masked, Geometry((5, 6), (3, 3), padding=(1, 1, 1, 1)))])
    assert layout.home(masked) is dy
    assert layout.image(dy) == layout.image(masked) != layout.image(y)


# Memory ------------------------------------------------------------------------------------------------


@st.composite
def plans(draw):
    """Sections of steps that touch symbols at will."""
    symbols = [Symbol((9, draw(st.integers(1, 40))), f"s{i}") for i in range(draw(st.integers(1, 8)))]
    sections = []
    for _ in range(draw(st.integers(1, 4))):
        steps = [
            Step(None, [Rows(symbol) for symbol in draw(st.sets(st.sampled_from(symbols), max_size=3))])
            for _ in range(draw(st.integers(1, 5)))
        ]
        sections.append(Section(draw(st.sampled_from(["sample", "batch"])), steps))
    return sections


def lives(sections):
    """{symbol: [(section, step)] of its uses}."""
    uses = {}
    for number, section in enumerate(sections):
        for time, step in enumerate(section.steps):
            for symbol in step.symbols():
                uses.setdefault(symbol, []).append((number, time))
    return uses


def alive_together(a, b, shared):
    """Whether two lives meet. All samples pass a sample section: what is shared lives through all of it."""
    cut = 1 if shared else 2
    return a[0][:cut] <= b[-1][:cut] and b[0][:cut] <= a[-1][:cut]


@given(plans(), st.integers(1, 9), st.booleans())
def test_no_two_live_symbols_overlap(sections, chunk, reuse):
    plan, uses = plan_memory(sections, Layout([]), capacity=9, chunk=chunk, reuse=reuse), lives(sections)
    assert plan.places.keys() == uses.keys()
    ranges = {}
    for symbol, place in plan.places.items():
        numbers = {number for number, _ in uses[symbol]}
        assert place.local == (len(numbers) == 1 and sections[numbers.pop()].by_sample)
        end = place.offset + 4 * symbol.shape[1] * (chunk if place.local else 9)
        assert place.offset % ALIGNMENT == 0
        assert end <= (plan.local_bytes if place.local else plan.shared_bytes)
        ranges[symbol] = place.offset, end
    for a, b in combinations(plan.places, 2):
        if plan.places[a].local == plan.places[b].local:
            apart = ranges[a][1] <= ranges[b][0] or ranges[b][1] <= ranges[a][0]
            assert apart or (reuse and not alive_together(uses[a], uses[b], not plan.places[a].local))


def test_memory_is_used_again():
    """A chain of layers needs the memory of two, however long it is."""
    chain = [Symbol((9, 16), f"s{i}") for i in range(6)]
    steps = [Step(None, [Rows(a), Rows(b)]) for a, b in pairwise(chain)]
    layout, section = Layout([]), Section("sample", steps)
    assert plan_memory([section], layout, capacity=9, chunk=2).local_bytes == 2 * 128
    assert plan_memory([section], layout, capacity=9, chunk=2, reuse=False).local_bytes == 6 * 128


def test_shared_memory_is_kept_through_a_section():
    """The first sample writes b while the others have yet to read a."""
    a, b = Symbol((9, 16), "a"), Symbol((9, 16), "b")
    sections = [
        Section("sample", [Step(None, [Rows(a)])]),
        Section("sample", [Step(None, [Rows(a)]), Step(None, [Rows(b)])]),
        Section("sample", [Step(None, [Rows(b)])]),
    ]
    plan = plan_memory(sections, Layout([]), capacity=9, chunk=2)
    assert plan.shared_bytes == 2 * 9 * 64
    assert plan.places[a].offset != plan.places[b].offset


def test_an_overlap_would_be_seen(monkeypatch):
    def careless(lives, reuse):
        return [0] * len(lives), max((life.bytes for life in lives), default=0)

    monkeypatch.setattr(memory, "_pack", careless)
    with pytest.raises(AssertionError):
        test_no_two_live_symbols_overlap()

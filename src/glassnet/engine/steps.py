"""Compiled passes of a network, with arrays in and out: a training step, and prediction."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from glassnet.engine.compile import Compiled, compile_operations
from glassnet.engine.inputs import Fields, Inputs
from glassnet.engine.kernels.update import RUN
from glassnet.engine.lowering.base import Slots
from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.executor import Executor
from glassnet.ops.augment import COLUMNS
from glassnet.ops.base import Array, Grads, LayerLike, Ops
from glassnet.plan.record import RecordingOps
from glassnet.plan.symbols import Operation, RecordingError, Symbol
from glassnet.shapes import Shape
from glassnet.store import Slot, Store, aligned, moving_average

AT_A_TIME = 400_000_000
"""Multiply-adds, a few milliseconds, that one native call takes at most, unless one step has more."""

OWN_MEMORY = {"conv2d_weight_grad", "linear_weight_grad", "bias_grad"}
"""Gradients that are computed right where the store keeps them."""


class Trainable(Protocol):
    """What the engine needs of a network."""

    store: Store
    input_shape: Shape | None
    output_shape: Shape | None

    def loss_and_gradients(
        self, ops: Ops, x: Array, target: Array, share: Array, loss: Any = None
    ) -> tuple[Array, Array, Grads]: ...


class Rule(Protocol):
    """What the engine needs of an optimiser."""

    def rule(self) -> Any: ...

    def kinds(self) -> tuple[str, ...]: ...

    def scalars(self, slot: Slot, lr: float, step: int) -> tuple[float, ...]: ...


def thread_count(threads: int | None = None) -> int:
    """Threads to use at most: the argument, else GLASSNET_NUM_THREADS, else this process's processors."""
    if threads is not None:
        return max(1, threads)
    named = os.environ.get("GLASSNET_NUM_THREADS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TrainingStep:
    """Steps of one network on one set of images, for batches of up to `capacity` samples.

    images (D, H, W, C) uint8 or float32; an input is images[index] * scale + shift. `accumulate` computes a
    batch's losses and gradients, `norm` is the gradient's, `update` applies the rule: it alone changes them.
    `replay` takes several whole steps in one native call. augmented: images change as `ops.augment` says.
    """

    def __init__(
        self,
        net: Trainable,
        loss: Any,
        optimizer: Rule,
        images: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        *,
        capacity: int,
        seed: int = 0,
        augmented: bool = False,
        threads: int | None = None,
        cpu: Cpu | None = None,
        reuse: bool = True,
        host_ops: Callable[..., Ops] | None = None,
    ) -> None:
        assert net.input_shape is not None and net.output_shape is not None
        store = net.store
        self.slots = Slots()
        outputs = net.output_shape[-1]
        self._seed = seed
        runs = _runs(store, optimizer)
        augmentation: Fields = {"rows": (np.float32, (capacity, COLUMNS)), "partner": (np.int64, (capacity,))}
        self._inputs = Inputs(
            {
                "random": (np.int64, (3,)),
                "index": (np.int64, (capacity,)),
                "labels": (np.int64, (capacity,)),
                "target": (np.float32, (capacity, outputs)),
                "share": (np.float32, (capacity,)),
                "bounds": (np.float64, (2,)),
                **{f"scalars of {run.name}": (np.float32, (run.scalars,)) for run in runs},
                "gain": (np.float32, (1,)),
                **(augmentation if augmented else {}),
            }
        )
        now = self._inputs.now
        self.slots.random = now["random"]
        self.index, self.target, self.share = now["index"], now["target"], now["share"]
        self.losses = aligned(capacity, np.float32)
        self.scores = aligned(capacity * outputs, np.float32).reshape(capacity, outputs)
        self.limits = np.array([1, np.inf], np.float32)
        self._sums = np.zeros(max(1, -(-len(store.grads) // RUN)), np.float64)
        self._results = np.zeros((self._inputs.rows, 3))
        self._pending = aligned(len(store.state), np.float32)
        self._store = store

        ops = RecordingOps(capacity, host_ops)
        rows = [ops.bound(a, "inputs") for a in (self._inputs.table_words, self._inputs.now_words)]
        ops.operations.append(Operation("load", rows, [], "inputs"))
        x = ops.batch("input", net.input_shape)
        arrays = [images, self.index, scale, shift, *(now[name] for name in augmentation if augmented)]
        feed = [ops.bound(array, "feed") for array in arrays]
        ops.operations.append(Operation("augment" if augmented else "gather", feed, [x], "input"))
        slots = (ops.bound(self.target, "target"), ops.bound(self.share, "share"))
        losses, scores, grads = net.loss_and_gradients(ops, x, *slots, loss)
        losses.array = self.losses
        exported = Symbol((1,), "exported", batched=False)
        ops.operations.append(Operation("export", [scores, ops.bound(self.scores)], [exported], "output"))
        needed = {losses, exported, *self._deliver(ops, grads)}
        self._record_update(ops, optimizer, runs)
        workers = thread_count(threads)
        self.compiled = compile_operations(
            ops.operations,
            needed,
            capacity=capacity,
            slots=self.slots,
            workers=workers,
            cpu=cpu,
            pending=self._pending_view,
            reuse=reuse,
        )
        self._executor = Executor()
        self.threads = self.compiled.threads_for(capacity)
        self._judge_section, self._clip_section, self._update_section = map(
            self.compiled.first, ("judge", "clip", "update")
        )
        self.replays = not self.compiled.hosts
        self.most = min(self._inputs.rows, max(1, AT_A_TIME // max(self.compiled.macs, 1)))

    def _deliver(self, ops: RecordingOps, grads: Grads) -> list[Symbol]:
        """Bind gradients to the store; the symbols that make them needed."""
        producers = {symbol: op.kind for op in ops.operations for symbol in op.outputs}
        self._store.grads[:] = 0  # those of frozen layers stay so, and count in no norm
        needed = []
        for name, grad in self._store.checked(grads):
            place = self._store.grad(name)
            if not isinstance(grad, Symbol):
                raise RecordingError(
                    f"The gradient of {name} is an array that a recording cannot follow. Compute it with "
                    "`ops`, or train with backend='reference'."
                )
            if producers[grad] in OWN_MEMORY and grad.array is None:
                grad.array = place
                needed.append(grad)
                continue
            done = Symbol((1,), f"{name} delivered", batched=False)
            ops.operations.append(Operation("deliver", [grad, ops.bound(place)], [done], name))
            needed.append(done)
        return needed

    def _record_update(self, ops: RecordingOps, optimizer: Rule, runs: list[Run]) -> None:
        """Guard, clip, the rule on every run of parameters, the running state, and the average of both."""
        store, now = self._store, self._inputs.now
        guarded = [ops.bound(store.grads, "grads"), ops.bound(self._sums, "sums")]
        ops.operations.append(Operation("squared_norm", guarded, [], "guard"))
        scores = self.scores.reshape(len(self.scores), -1)
        seen = (self.losses, self._sums, scores, now["labels"], now["bounds"])
        judged = [ops.bound(array, "judge") for array in (*seen, self.limits, self._results)]
        ops.operations.append(Operation("judge", judged, [], "judge"))
        clipped = [ops.bound(store.grads, "grads"), ops.bound(self.limits, "limits")]
        ops.operations.append(Operation("clip", clipped, [], "clip"))
        for kind in optimizer.kinds():
            store.add_optimizer_state(kind)
        self._runs = [run.name for run in runs]
        blocks = (store.values, store.grads, *(store.optimizer[kind] for kind in optimizer.kinds()))
        for run in runs:
            symbols = [ops.bound(block[run.start : run.end], run.name) for block in blocks]
            settings = {"rule": optimizer.rule(), "scalars": now[f"scalars of {run.name}"]}
            ops.operations.append(Operation("update", symbols, [], run.name, settings))
        if len(store.state):
            state = [ops.bound(store.state, "state"), ops.bound(self._pending, "pending")]
            ops.operations.append(Operation("commit", state, [], "state"))
        for average, block in store.averaged():
            symbols = [ops.bound(average, "average"), ops.bound(block, "average")]
            settings = {"rule": moving_average, "scalars": now["gain"]}
            ops.operations.append(Operation("update", symbols, [], "average", settings))

    def _pending_view(self, state: np.ndarray) -> np.ndarray:
        """Where a running statistic waits for the step to commit."""
        start = (state.ctypes.data - self._store.state.ctypes.data) // state.itemsize
        return self._pending[start : start + state.size].reshape(state.shape)

    def accumulate(
        self,
        index: Array,
        target: Array,
        share: Array,
        *,
        step: int,
        first_sample: int = 0,
        rows: Array | None = None,
        partner: Array | None = None,
    ) -> int:
        """Losses, scores and gradients of one (part of a) batch; `first_sample` 0 begins a step."""
        n = len(index)
        self.index[:n], self.target[:n], self.share[:n] = index, target, share
        if rows is not None:
            self._inputs.now["rows"][:n], self._inputs.now["partner"][:n] = rows, partner
        self.slots.random[:] = self._seed, step, first_sample
        self._begin(n, adding=first_sample > 0)
        self._run(1, self._judge_section, n)
        return n

    def replay(
        self,
        index: Array,
        labels: Array,
        target: Array,
        share: Array,
        scalars: Sequence[Mapping[str, tuple[float, ...]]],
        *,
        step: int,
        clip: ArrayLike = (math.inf, math.inf),
        gain: ArrayLike = 0.0,
        rows: Array | None = None,
        partner: Array | None = None,
    ) -> Array:
        """(k, 3): loss, gradient norm and correct predictions of k whole steps of n samples, at most `most`.

        index, labels (k, n), target (k, n, K), share (k, n). scalars: the rule's, by parameter name, of each
        step; `step` is the number of the first. clip (k, 2): bounds on each element and on the norm of all
        gradients, infinity for none. gain (k,): of the moving averages. The steps from the first on that is
        not finite change nothing. A network with a host call cannot be replayed: see `replays`.
        """
        k, n = index.shape
        table = self._inputs.table
        table["index"][:k, :n], table["labels"][:k, :n] = index, labels
        table["target"][:k, :n], table["share"][:k, :n] = target, share
        if rows is not None:
            table["rows"][:k, :n], table["partner"][:k, :n] = rows, partner
        table["random"][:k, 0], table["random"][:k, 1] = self._seed, np.arange(step, step + k)
        table["bounds"][:k] = clip
        table["gain"][:k, 0] = gain
        for name in self._runs:
            table[f"scalars of {name}"][:k] = [row[name] for row in scalars]
        self._begin(n, adding=False)
        self.slots.cursor[0] = 0
        self.slots.go[0] = 1
        self._run(0, len(self.compiled.sections), n, repeats=k)
        self.slots.go[0] = 1
        return self._results[:k].copy()

    def _begin(self, samples: int, *, adding: bool) -> None:
        self.slots.samples[0] = samples
        self.slots.adding[0] = adding
        if not adding and len(self._pending):
            self._pending[:] = self._store.state

    @property
    def norm(self) -> float:
        """The norm of all gradients of the step so far; not finite where any of them is not."""
        return math.sqrt(self._sums.sum())

    def clip(self, *, scale: float = 1.0, limit: float = math.inf) -> None:
        """Multiply all gradients by `scale` and hold them within +-limit."""
        self.limits[0], self.limits[1] = scale, limit
        self._run(self._clip_section, self._update_section, 0)

    def update(self, scalars: Mapping[str, tuple[float, ...]], gain: float = 0.0) -> None:
        """Apply the rule with these scalars by parameter name, commit running state, move the averages."""
        for name in self._runs:
            self._inputs.now[f"scalars of {name}"][:] = scalars[name]
        self._inputs.now["gain"][0] = gain
        for host in self.compiled.hosts.values():
            host.commit(self._pending_view)
        self._run(self._update_section, len(self.compiled.sections), 0)

    def _run(self, first: int, last: int, samples: int, repeats: int = 1) -> None:
        self.compiled.run(self._executor, first, last, samples=samples, threads=self.threads, repeats=repeats)


@dataclass(frozen=True)
class Run:
    """Neighbouring parameters that learn with the same scalars: the name of the first, and where they lie."""

    name: str
    start: int
    end: int
    scalars: int


def _runs(store: Store, optimizer: Rule) -> list[Run]:
    """All that learn."""
    runs: list[Run] = []
    last: tuple[float, ...] | None = None
    step = 64 // store.values.itemsize
    for name, slot in store.parameters.items():
        scalars = optimizer.scalars(slot, 1.0, 1) if slot.layer.trainable else None
        end = slot.offset + -(-slot.tensor.value.size // step) * step
        if scalars is not None and scalars == last:
            runs[-1] = replace(runs[-1], end=end)
        elif scalars is not None:
            runs.append(Run(name, slot.offset, end, len(scalars)))
        last = scalars
    return runs


class Prediction:
    """Scores of up to `capacity` inputs at once, in evaluation mode.

    feed: (dtype, scale, shift) of raw images, whose input is image * scale + shift; else inputs are given.
    """

    def __init__(
        self,
        net: LayerLike,
        input_shape: Shape,
        *,
        capacity: int,
        feed: tuple[Any, np.ndarray, np.ndarray] | None = None,
        threads: int | None = None,
        cpu: Cpu | None = None,
        host_ops: Callable[..., Ops] | None = None,
    ) -> None:
        self.slots = Slots()
        self.capacity = capacity
        ops = RecordingOps(capacity, host_ops)
        x = ops.batch("input", input_shape)
        channels = input_shape[-1]
        as_given = np.float32, np.ones(channels, np.float32), np.zeros(channels, np.float32)
        dtype, scale, shift = feed or as_given
        self._dtype = np.dtype(dtype)
        images = np.zeros((1, *input_shape), self._dtype)  # in its place, each call's own
        arrays = images, np.arange(capacity), scale, shift
        gather = Operation("gather", [ops.bound(a, "feed") for a in arrays], [x], "input")
        ops.operations.append(gather)
        scores, _ = ops.call(net, x, False)
        self.scores = aligned(capacity * math.prod(scores.shape[1:]), np.float32).reshape(scores.shape)
        exported = Symbol((1,), "exported", batched=False)
        ops.operations.append(Operation("export", [scores, ops.bound(self.scores)], [exported], "output"))
        self.compiled = compile_operations(
            ops.operations,
            [exported],
            capacity=capacity,
            slots=self.slots,
            workers=thread_count(threads),
            cpu=cpu,
        )
        self._blocks = self.compiled.block_of(gather)
        self._executors = {threads: Executor() for threads in (1, self.compiled.workers)}
        self._lock = threading.Lock()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, *input_shape), N at most the capacity -> a new (N, ...). Callers take turns."""
        n, compiled = len(x), self.compiled
        x = np.ascontiguousarray(x, self._dtype)
        threads = compiled.threads_for(n)
        with self._lock:
            self._blocks[:, 0] = x.ctypes.data
            self._blocks[:, 1] = n
            self.slots.samples[0] = n
            compiled.run(self._executors[threads], 0, len(compiled.sections), samples=n, threads=threads)
            return self.scores[:n].copy()


__all__ = ["Compiled", "Prediction", "TrainingStep", "thread_count"]

"""What a run is at a moment, as tensors and facts: all that must be kept to go on with the same bits.

Order of samples, dropout and augmentation are functions of the seed, the epoch, the step and the place in the
batch; a schedule is one of the step and the epochs so far. So counters are all there is to say of them.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from glassnet.errors import CheckpointError, GlassnetError
from glassnet.io.model import layer_facts, put_layer_facts
from glassnet.network import Sequential
from glassnet.runs.checkpoint import Checkpoints
from glassnet.runs.records import EpochRecord
from glassnet.train.callbacks import Callback, Training

log = logging.getLogger(__name__)

Tensors = dict[str, np.ndarray]
Facts = dict[str, Any]


@dataclass
class Progress:
    """How far a run is, and the sums of the epoch that it is in.

    step: updates made. batch, samples, correct: of this epoch. loss: sum of its steps' losses times their
    samples. lr, speed: of the last step. seconds: of the run.
    """

    step: int = 0
    batch: int = 0
    samples: int = 0
    correct: int = 0
    loss: float = 0.0
    lr: float = 0.0
    speed: float = 0.0
    seconds: float = 0.0

    def count(self, samples: int, loss: float, correct: int) -> None:
        """One more step."""
        self.step += 1
        self.batch += 1
        self.samples += samples
        self.correct += correct
        self.loss += loss * samples

    def begin_epoch(self) -> None:
        """The sums start anew."""
        self.batch = self.samples = self.correct = 0
        self.loss = 0.0


class Saver:
    """Saves a run's checkpoints: every `steps` steps, every `minutes` minutes, neither where 0."""

    def __init__(self, checkpoints: Checkpoints, fingerprint: Facts, *, steps: int, minutes: float) -> None:
        self.checkpoints, self.steps = checkpoints, steps
        self._minutes, self._fingerprint = minutes, fingerprint
        self._step, self._time = 0, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether enough steps or minutes have gone by."""
        by_step = self.steps and step - self._step >= self.steps
        return bool(by_step or (self._minutes and time.monotonic() - self._time >= 60 * self._minutes))

    def save(self, training: Training, progress: Progress, callbacks: Sequence[Callback]) -> None:
        """Write a checkpoint."""
        facts = {
            "config": training.config.to_dict(),
            "backend": training.backend,
            "data": self._fingerprint,
            "progress": asdict(progress),
            "history": [asdict(record) for record in training.history],
            "layers": layer_facts(training.net),
            "machine": training.machine,
            "stop": training.stop,
            "warnings": training.warnings,
        }
        self.checkpoints.save(tensors_of(training.net, callbacks), facts)
        self._step, self._time = progress.step, time.monotonic()

    def remove(self) -> None:
        """The run is finished: its models and records say all."""
        shutil.rmtree(self.checkpoints.folder, ignore_errors=True)


def blocks(net: Sequential) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """(name, block, slots) of every block of the store that steps change."""
    store = net.store
    yield "parameter", store.values, store.parameters
    yield "state", store.state, store.running
    for kind, block in store.optimizer.items():
        yield f"optimizer/{kind}", block, store.parameters
    if store.average is not None:
        yield "average/parameter", store.average[0], store.parameters
        yield "average/state", store.average[1], store.running


def tensors_of(net: Sequential, callbacks: Sequence[Callback]) -> Tensors:
    """All tensors of a run by name; views, not copies."""
    found = {
        f"{kind}/{name}": slot.view(block)
        for kind, block, slots in blocks(net)
        for name, slot in slots.items()
    }
    for number, callback in enumerate(callbacks):
        found |= {f"callback/{number}/{name}": array for name, array in callback.tensors().items()}
    return found


def put_tensors(net: Sequential, callbacks: Sequence[Callback], tensors: Tensors) -> None:
    """The inverse of `tensors_of`; the blocks must be there. Nothing changes where anything does not fit."""
    places = {
        f"{kind}/{name}": slot.view(block)
        for kind, block, slots in blocks(net)
        for name, slot in slots.items()
    }
    own = {name for name in tensors if name.startswith("callback/")}
    if wrong := sorted(places.keys() ^ (tensors.keys() - own)):
        raise CheckpointError(
            f"The checkpoint does not fit the network: {', '.join(wrong[:5])} is only in one of them."
        )
    for name, place in places.items():
        if tensors[name].shape != place.shape or tensors[name].dtype != place.dtype:
            raise CheckpointError(
                f"The checkpoint's {name} is {tensors[name].dtype} {tensors[name].shape}, needed "
                f"{place.dtype} {place.shape}."
            )
    for name, place in places.items():
        place[...] = tensors[name]
    for number, callback in enumerate(callbacks):
        prefix = f"callback/{number}/"
        callback.restore({n.removeprefix(prefix): tensors[n] for n in own if n.startswith(prefix)})


def put_layers(net: Sequential, facts: Facts) -> None:
    """Which layers learn and how, as it was, before a plan is made of it."""
    try:
        put_layer_facts(net, facts["layers"])
    except (KeyError, TypeError, ValueError, GlassnetError) as error:
        raise CheckpointError(f"The checkpoint is of another network: {error!r}.") from error


def put_facts(training: Training, facts: Facts) -> Progress:
    """History and counters as they were."""
    try:
        training.history[:] = [EpochRecord(**record) for record in facts["history"]]
        training.warnings[:] = map(str, facts["warnings"])
        training.stop = None if facts.get("stop") is None else str(facts["stop"])
        progress = Progress(**facts["progress"])
    except (AttributeError, KeyError, TypeError, ValueError, GlassnetError) as error:
        raise CheckpointError(f"The checkpoint says nothing that a run can be: {error!r}.") from error
    if facts.get("machine") != training.machine:
        log.warning(
            "This run began on %s; here is %s, on which its bits may come out otherwise. A run with "
            "processor='x86-64-v3' keeps them on all x86 machines.",
            facts.get("machine"),
            training.machine,
        )
    return progress

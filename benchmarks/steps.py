"""Training steps and predictions of glassnet beside PyTorch's, on the same weights, batches and threads.

    python benchmarks/steps.py            the table
    python benchmarks/steps.py --json     the same, and one JSON object as the last line
    python benchmarks/steps.py --only "2 complex" --rounds 15

A step gathers its batch, runs forward, loss and backward and updates by plain SGD, on both sides; PyTorch
runs eager, in the better of its two memory formats. Losses of five steps are compared before any is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable

import numpy as np
import torch
from timer import Times, spread, take_turns
from torch import nn

import glassnet as gn
from glassnet.engine.machine.peak import measure_peak
from glassnet.engine.steps import Prediction, TrainingStep
from networks import CASES, Case, copy_weights

LR = 1e-3
SAMPLES = 512
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def data_of(net: gn.Sequential, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, the same for both."""
    generator = np.random.default_rng(0)
    count = max(batch, min(SAMPLES, 4 * batch))
    images = generator.normal(size=(count, *net.input_shape)).astype(np.float32)
    return images, generator.integers(0, net.output_shape[-1], count)


def our_step(net: gn.Sequential, batch: int, threads: int) -> tuple[Callable[[], float], TrainingStep]:
    """A function that takes one step on the next batch and returns its loss."""
    images, labels = data_of(net, batch)
    loss, optimizer, channels = gn.SoftmaxCrossEntropy(), gn.SGD(lr=LR), images.shape[-1]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    step = TrainingStep(net, loss, optimizer, images, ones, zeros, capacity=batch, threads=threads)
    targets, shares = np.eye(net.output_shape[-1], dtype=np.float32), np.full(batch, 1 / batch, np.float32)
    scalars = {name: optimizer.scalars(slot, LR, 1) for name, slot in net.store.learning()}
    orders = batches_of(len(images), batch)
    taken = 0

    def run() -> float:
        nonlocal taken
        index = orders[taken % len(orders)]
        step.accumulate(index, targets[labels[index]], shares, step=taken)
        taken += 1
        if np.isfinite(step.norm):
            step.update(scalars)
        return float(step.losses.sum())

    return run, step


def their_step(
    case: Case, net: gn.Sequential, batch: int, memory: torch.memory_format
) -> Callable[[], float]:
    """The same in PyTorch."""
    images, labels = data_of(net, batch)
    model = case.theirs()
    copy_weights(net, model)
    model = model.to(memory_format=memory)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=memory)
    y = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    orders = [torch.from_numpy(order) for order in batches_of(len(images), batch)]
    taken = 0

    def run() -> float:
        nonlocal taken
        index = orders[taken % len(orders)]
        taken += 1
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def batches_of(samples: int, batch: int) -> list[np.ndarray]:
    """Index arrays of whole batches in a fixed random order."""
    order = np.random.default_rng(1).permutation(samples)
    return [order[i : i + batch] for i in range(0, samples - batch + 1, batch)]


def compare_losses(ours: Callable[[], float], theirs: Callable[[], float]) -> None:
    """Five steps must give the same losses; else there is nothing to time."""
    for number in range(5):
        a, b = ours(), theirs()
        if abs(a - b) > 1e-3 * max(abs(b), 1):
            raise SystemExit(f"Loss {number + 1} differs: {a} here, {b} in PyTorch.")


def time_training(case: Case, batch: int, args: argparse.Namespace) -> dict[str, object]:
    """The row of one training step."""
    reference = case.ours()
    contestants: dict[str, Callable[[], object]] = {}
    for name, memory in FORMATS.items():
        run = their_step(case, reference, batch, memory)
        compare_losses(our_step(case.ours(), batch, args.threads)[0], run)
        contestants[name] = run
    contestants["glassnet"], step = our_step(case.ours(), batch, args.threads)
    times = take_turns(contestants, rounds=args.rounds, seconds=args.seconds)
    return row(case.name, "train", batch, times, step.compiled.macs, args)


def time_inference(case: Case, args: argparse.Namespace) -> dict[str, object]:
    """The row of one image in, scores out, from Python."""
    net = case.ours()
    x = data_of(net, 1)[0][:1]
    predict = Prediction(net, net.input_shape, capacity=1, threads=args.threads)
    contestants: dict[str, Callable[[], object]] = {"glassnet": lambda: predict(x)}
    image = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    for name, memory in FORMATS.items():
        model = case.theirs().eval()
        copy_weights(net, model)
        contestants[name] = their_prediction(model.to(memory_format=memory), image, memory)
        if not np.allclose(predict(x), contestants[name](), rtol=1e-3, atol=1e-3):
            raise SystemExit(f"Predictions of {case.name} differ from PyTorch's.")
    times = take_turns(contestants, rounds=args.rounds, seconds=args.seconds)
    return row(case.name, "infer", 1, times, predict.compiled.macs, args)


def their_prediction(
    model: nn.Module, image: np.ndarray, memory: torch.memory_format
) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(image).contiguous(memory_format=memory)).numpy()

    return run


def row(
    name: str, mode: str, batch: int, times: Times, macs: int, args: argparse.Namespace
) -> dict[str, object]:
    best = min(FORMATS, key=times.median)
    ratios = times.ratios(best, "glassnet")
    seconds = times.median("glassnet")
    peak = args.threads * measure_peak()
    print(
        f"{name:10s} {mode:5s} {batch:4d}  {1e3 * seconds:9.3f} {1e3 * times.median(best):9.3f}  "
        f"{spread(ratios):20s} {2e-9 * macs / seconds:6.0f} GF/s "
        f"{100 * 2 * macs / seconds / peak:5.1f} %  {best}",
        flush=True,
    )
    return {
        "network": name,
        "mode": mode,
        "batch": batch,
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "ms": 1e3 * seconds,
        "torch_ms": 1e3 * times.median(best),
        "share_of_peak": 2 * macs / seconds / peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--only", action="append", help="a network of the table; may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each contestant in each round")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{args.threads} threads of {os.cpu_count()} processors, PyTorch {torch.__version__}, "
        f"{args.rounds} rounds"
    )
    print("network    mode  batch       ms  torch ms  ratio (spread)        speed  of peak  PyTorch's format")
    rows = []
    for case in CASES:
        if args.only and case.name not in args.only:
            continue
        rows += [time_training(case, batch, args) for batch in case.batches]
        rows.append(time_inference(case, args))
    if args.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()

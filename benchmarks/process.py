"""What the whole process costs: import, first step with a warm cache, first compilation, memory of training.

    python benchmarks/process.py

Each figure is the median of fresh processes. Memory is what training `4` at batch 64 adds to the process's
peak, here and in PyTorch.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

IMPORT = "import time; import numpy; t = time.perf_counter(); import glassnet; print(time.perf_counter() - t)"
FIRST_STEP = """
import time; start = time.time()
import sys; sys.path.insert(0, "benchmarks")
import numpy as np
import glassnet as gn
from glassnet.engine.steps import TrainingStep
layers = [gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
net = gn.Sequential(layers, input_shape=(28, 28, 1))
loss, optimizer, images = gn.SoftmaxCrossEntropy(), gn.SGD(), np.zeros((64, 28, 28, 1), np.float32)
one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
step = TrainingStep(net, loss, optimizer, images, one, zero, capacity=10)
target, share = loss.targets(np.arange(10), 10)
step.accumulate(np.arange(10), target, share, step=0)
step.update({name: optimizer.scalars(slot, 0.1, 1) for name, slot in net.store.learning()})
print(time.time() - start)
"""
MEMORY = """
import sys; sys.path.insert(0, "benchmarks")
import torch; torch.set_num_threads(2)
from networks import CASES
from steps import FORMATS, our_step, their_step
case, name = next(case for case in CASES if case.name == "4"), sys.argv[1]
net = case.ours()
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
run = our_step(net, 64, 2)[0] if name == "glassnet" else their_step(case, net, 64, FORMATS[name])
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from what is in memory now
before = peak()
for _ in range(5):
    run()
print((peak() - before) / 1024)
"""


def median(code: str, *arguments: str, times: int = 5, **environment: str) -> float:
    """The number that fresh processes print, the middle one."""
    command = [sys.executable, "-c", code, *arguments]
    return statistics.median(
        float(
            subprocess.run(
                command, env=os.environ | environment, capture_output=True, check=True
            ).stdout.split()[-1]
        )
        for _ in range(times)
    )


def main() -> None:
    print(f"import glassnet, over import numpy: {1e3 * median(IMPORT):.0f} ms")
    with tempfile.TemporaryDirectory() as cache:
        cold = median(FIRST_STEP, times=1, GLASSNET_CACHE=cache)
        warm = median(FIRST_STEP, GLASSNET_CACHE=cache)
    print(f"process start to the end of the first step: {warm:.2f} s, {cold:.1f} s if nothing is compiled")
    for name in ("glassnet", "contiguous", "channels_last"):
        who = name if name == "glassnet" else f"PyTorch {name}"
        print(f"memory that training 4 at batch 64 adds, {who}: {median(MEMORY, name, times=3):.0f} MiB")


if __name__ == "__main__":
    main()

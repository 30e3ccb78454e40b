"""What the steps of each network's plan spend their time on, on one thread, and what the same bits cost.

    python benchmarks/passes.py

For each training plan of the table: the share of the time in convolution and linear layers, in everything
else, and in adding up leaves, which is what the same bits on any number of threads cost. For `2 complex` the
three passes of its convolutions, as a share of the FMA peak measured in the same run.
"""

from __future__ import annotations

from collections import defaultdict

from steps import our_step

from glassnet.engine.profile import Row, profile
from networks import CASES

PRODUCTS = {"conv2d", "conv2d_input_grad", "conv2d_weight_grad"}
LINEAR = {"linear", "linear_input_grad", "linear_weight_grad"}


def share(rows: list[Row], total: float) -> str:
    return f"{100 * sum(row.seconds for row in rows) / total:6.1f} %"


def main() -> None:
    print("network    batch        ms  convolutions   linear  leaves")
    for case in CASES:
        for batch in case.batches:
            _, step = our_step(case.ours(), batch, threads=1)
            index = range(batch)
            step.accumulate(list(index), step.target[:batch], step.share[:batch], step=0)
            result = profile(step.compiled, rounds=5)
            rows, total = list(result.rows), result.seconds
            leaves = [row for row in rows if row.kernel == "sum_leaves"]
            products = [row for row in rows if row.operation in PRODUCTS and row not in leaves]
            linear = [row for row in rows if row.operation in LINEAR]
            print(
                f"{case.name:10s} {batch:5d} {1e3 * total:9.3f}      {share(products, total)} "
                f"{share(linear, total)} {share(leaves, total)}",
                flush=True,
            )
            if case.name == "2 complex":
                print_passes(products)


def print_passes(products: list[Row]) -> None:
    """Each pass over all convolutions: their multiply-adds over their time."""
    passes: dict[str, list[Row]] = defaultdict(list)
    for row in products:
        if row.macs:
            passes[row.operation].append(row)
    for name, rows in passes.items():
        seconds, peak = sum(r.seconds for r in rows), rows[0].gflops / rows[0].share_of_peak
        speed = 2e-9 * sum(r.macs for r in rows) / seconds
        print(f"    {name:20s} {speed:6.1f} GF/s, {100 * speed / peak:5.1f} % of the peak of one core")


if __name__ == "__main__":
    main()

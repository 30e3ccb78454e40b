"""glassnet plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.progress import compiling
from glassnet.cli.target import found, recorded
from glassnet.plan.passes.layout import NONE
from glassnet.plan.show import Buffer, show
from glassnet.summary import table

BatchSize = Annotated[int | None, typer.Option(min=1, help="Images in a step, else as the config says.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads, else GLASSNET_NUM_THREADS or the processor's.")
]


def plan(
    target: Annotated[
        str, typer.Argument(help="A data set, a config (.toml), a model file or a run folder.")
    ],
    batch_size: BatchSize = None,
    threads: Threads = None,
    json: JsonFlag = False,
) -> None:
    """Show the steps that a network's training is compiled to.

    For each step its section, layer, operation, kernel, the buffers that it reads and writes, multiply-adds
    (MACs) and bytes of a full batch; then where each buffer lies.

    Example: glassnet plan digits --batch-size 32
    """
    output = Output(json)
    with compiling(output.say):
        step = recorded(found(target), batch_size, threads)
    compiled, leaves = step.compiled, step.compiled.program.sections
    rows, buffers = show(
        compiled.sections, compiled.layout, compiled.memory, capacity=compiled.capacity, chunk=compiled.chunk
    )
    totals = {
        "batch_size": compiled.capacity,
        "in_flight": compiled.chunk,
        "leaves": min(max(s.leaves for s in leaves), -(-compiled.capacity // compiled.chunk)),
        "threads": step.threads,
        "bytes_per_worker": compiled.memory.local_bytes,
        "bytes_shared": compiled.memory.shared_bytes,
        "macs": compiled.macs,
    }
    output.say(
        *table(
            ("section", "layer", "operation", "kernel", "reads", "writes", "MACs", "bytes"),
            [
                (
                    r.section,
                    r.layer,
                    r.operation,
                    r.kernel,
                    listed(r.reads),
                    listed(r.writes),
                    f"{r.macs:,}",
                    f"{r.bytes:,}",
                )
                for r in rows
            ],
            left=6,
        ),
        "",
        *table(
            ("buffer", "made by", "shape", "type", "halo", "memory", "offset", "bytes"),
            [
                (
                    str(b.number),
                    b.name,
                    "x".join(map(str, b.shape)),
                    b.dtype,
                    halo(b),
                    "worker" if b.local else "shared",
                    f"{b.offset:,}",
                    f"{b.bytes:,}",
                )
                for b in buffers
            ],
            left=6,
        ),
        "",
        "Batches of {batch_size} in {leaves} leaves, {in_flight} samples in flight on each of {threads} "
        "threads.\n{bytes_per_worker:,} bytes a worker, {bytes_shared:,} shared; {macs:,} MACs.".format(
            **totals
        ),
    )
    output.result(**totals, steps=[asdict(row) for row in rows], buffers=[asdict(b) for b in buffers])


def listed(numbers: tuple[int, ...]) -> str:
    """Buffers by number."""
    return " ".join(map(str, numbers))


def halo(buffer: Buffer) -> str:
    """Top, bottom, left, right; one number where all are the same."""
    if buffer.halo == NONE:
        return ""
    return " ".join(map(str, buffer.halo if len(set(buffer.halo)) > 1 else buffer.halo[:1]))

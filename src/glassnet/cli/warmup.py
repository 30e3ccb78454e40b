"""glassnet warmup."""

from __future__ import annotations

import time

from glassnet.cli.output import JsonFlag, Output
from glassnet.cli.progress import compiling
from glassnet.train.warmup import warm_up


def warmup(json: JsonFlag = False) -> None:
    """Compile all kernels in advance.

    And the register tiles of usual networks, so that a first training has nothing to wait for. Machine code
    is kept on disk; what is there already is not compiled again.

    Example: glassnet warmup
    """
    output, start = Output(json), time.perf_counter()
    with compiling(output.say) as seen:
        warm_up()
    from glassnet.engine.machine.cache import folder

    seconds = time.perf_counter() - start
    output.say(f"Compiled {seen.count} kernels in {seconds:.1f} s. They are kept in {folder()}.")
    output.result(compiled=seen.count, seconds=seconds, folder=str(folder()))

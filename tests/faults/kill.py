"""Kill training at random moments, resume it, and compare the bits with those of a run never stopped.

python tests/faults/kill.py --times 100

Optimisers, schedules, dropout, augmentation, accumulation and threads vary. A run is killed once or more:
while it starts, while it saves a checkpoint, and again after it was resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kill_saving import unfinished

COMMON = ("epochs=3", "batch_size=48", "checkpoint_minutes=0")
OFTEN, SELDOM = "checkpoint_steps=2", "checkpoint_steps=11"
AUGMENT = "augment=digits"
VARIATIONS = (
    (OFTEN, "model=small_norm", "optimizer={name='sgd', momentum=0.9}", "schedule.name=one_cycle"),
    (SELDOM, "model=small_norm", "optimizer.name=adam", "schedule={name='cosine', warmup=0.5}", "ema=0.95"),
    (
        OFTEN,
        "model=small",
        "optimizer.name=adamw",
        "schedule={name='step', every=1}",
        "accumulate=3",
        AUGMENT,
    ),
    (SELDOM, "model=small_norm", "optimizer.name=rmsprop", "early_stopping=1", "clip_norm=0.5", AUGMENT),
    (OFTEN, "model=linear", "optimizer={name='sgd', lr=2.0}", "schedule={name='plateau', patience=0}"),
    (SELDOM, "model=small_norm", "accumulate=2", "val_fraction=0.0", "backend=reference"),
)
THREADS = (1, 2, 3)
TIMES = {"seconds", "images_per_second", "warnings"}  # a look at the run's health is taken when there is time
STARTING = 0.2
"""How many of the kills may fall into a program's start; the others come after a checkpoint of its own."""
SAVING = 0.4
"""How many kills wait for a save to begin."""
AGAIN = 0.6
"""How likely a resumed run is killed again."""
LIMIT = 300.0
"""Seconds that one program may take."""


@dataclass
class Reference:
    """A run that was never stopped: its folder, and the seconds before and between its checkpoints."""

    folder: Path
    starting: float
    training: float


@dataclass
class Count:
    """What was done so far."""

    killed: int = 0
    inside: int = 0
    runs: int = 0


def program(*arguments: str | Path, threads: int) -> subprocess.Popen[str]:
    """The command line, started."""
    environment = os.environ | {"GLASSNET_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "glassnet", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def train(folder: Path, settings: tuple[str, ...], threads: int) -> subprocess.Popen[str]:
    """A new run in that folder."""
    assignments = [text for setting in (*COMMON, *settings) for text in ("--set", setting)]
    place = ("--run-dir", folder.parent, "--name", folder.name)
    return program("train", "digits", *place, *assignments, threads=threads)


def newest(folder: Path) -> str:
    """The name of the newest manifest, empty where there is none."""
    try:
        return max(name for name in os.listdir(folder / "checkpoints") if name.endswith(".json"))
    except (FileNotFoundError, ValueError):
        return ""


def seconds_to_checkpoint(process: subprocess.Popen[str], folder: Path) -> float:
    """Wait for the next checkpoint, or the end of the program."""
    start, before = time.perf_counter(), newest(folder)
    while process.poll() is None and newest(folder) <= before:
        if time.perf_counter() - start > LIMIT:
            process.kill()
            sys.exit(f"{folder} had no checkpoint after {LIMIT:g} s.")
        time.sleep(0.002)
    return time.perf_counter() - start


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for a program that nobody kills, which must succeed."""
    _, told = process.communicate(timeout=LIMIT)
    if process.returncode:
        sys.exit(f"{' '.join(process.args[2:])} failed:\n{told}")


def never_stopped(folder: Path, settings: tuple[str, ...]) -> Reference:
    """What all the others are compared with."""
    process = train(folder, settings, THREADS[0])
    waits = []
    while process.poll() is None:
        waits.append(seconds_to_checkpoint(process, folder))
    ended(process)
    starting, *between, _ = waits
    return Reference(folder, starting, sum(between))


def kill(process: subprocess.Popen[str], folder: Path, reference: Reference, moments: random.Random) -> bool:
    """Kill a program at a random moment; whether it had not ended by then."""
    if moments.random() < STARTING:
        delay = moments.uniform(0, reference.starting)
    else:
        seconds_to_checkpoint(process, folder)
        delay = moments.uniform(0, reference.training)
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    if moments.random() < SAVING:
        before = leftovers(folder)
        while process.poll() is None and leftovers(folder) <= before:
            pass  # a save takes a few milliseconds
    process.kill()
    _, told = process.communicate()
    if process.returncode > 0:
        sys.exit(f"{' '.join(process.args[2:])} failed:\n{told}")
    return process.returncode < 0


def killed_run(
    folder: Path, settings: tuple[str, ...], reference: Reference, moments: random.Random, count: Count
) -> None:
    """Train, kill, resume, until the run is done."""
    kills, wanted = 0, 1
    while moments.random() < AGAIN:
        wanted += 1
    while True:
        threads = moments.choice(THREADS)
        if newest(folder):
            process = program("resume", folder, threads=threads)
        else:  # killed before there was anything to resume
            shutil.rmtree(folder, ignore_errors=True)
            process = train(folder, settings, threads)
        if kills == wanted:
            ended(process)
            return
        parts = leftovers(folder)
        if not kill(process, folder, reference, moments):
            return
        kills += 1
        count.killed += 1
        count.inside += bool(leftovers(folder) - parts)
        if finished(folder):
            return


def leftovers(folder: Path) -> set[str]:
    """What kills inside a save left, or what a save is writing."""
    try:
        return unfinished(folder / "checkpoints")
    except FileNotFoundError:
        return set()


def finished(folder: Path) -> bool:
    """Whether the run was over but for the end of its program."""
    try:
        return "seconds" in json.loads((folder / "evaluation.json").read_text())
    except (FileNotFoundError, ValueError):
        return False


def contents(folder: Path) -> dict[str, object]:
    """What must be the same in two runs: models, settings, metrics and evaluation but for times."""
    found: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".gnet", ".toml"):
            found[path.name] = path.read_bytes()
        elif path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[path.name] = [
                {key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines
            ]
        elif path.suffix == ".png":
            found[path.name] = path.read_bytes()[:8]
        elif path.name not in (".lock", "checkpoints"):
            found[path.name] = None
    return found


def different(folder: Path, reference: Reference) -> list[str]:
    """The files that are not the same."""
    mine, others = contents(folder), contents(reference.folder)
    return sorted(name for name in mine | others if mine.get(name, name) != others.get(name, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    options = parser.parse_args()
    moments, count = random.Random(options.seed), Count()
    references: dict[tuple[str, ...], Reference] = {}
    place = Path(tempfile.mkdtemp(prefix="killed-"))
    for settings in itertools.cycle(VARIATIONS):
        if count.killed >= options.times:
            break
        if settings not in references:
            references[settings] = never_stopped(place / f"whole-{len(references)}", settings)
        folder = place / f"killed-{count.runs}"
        killed_run(folder, settings, references[settings], moments, count)
        count.runs += 1
        if wrong := different(folder, references[settings]):
            sys.exit(
                f"{folder}, with {' '.join(settings)}, was killed and resumed to another "
                f"{', '.join(wrong)} than {references[settings].folder}."
            )
        if options.verbose:
            print(f"{folder.name}: {count}", flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(place)
    print(
        f"{count.killed} times killed, {count.inside} of them inside a checkpoint: "
        f"{count.runs} runs resumed to the same bits."
    )


if __name__ == "__main__":
    main()

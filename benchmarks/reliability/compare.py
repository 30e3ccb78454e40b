"""Resuming, torn checkpoints and untrusted files: glassnet, PyTorch Lightning and Keras, side by side.

    python benchmarks/reliability/compare.py

The same small network with dropout and momentum learns digits in each, in processes that are really killed.
Each framework is used as its documentation says; with_*.py shows how. Takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from damage import SHARES, cuts

WORKER = Path(__file__).with_name("worker.py")
NEEDED = ("lightning", "torchdata", "keras", "torch")
KILLS = (27, 67, 118)
"""In the middle of each epoch of 45 steps; checkpoints are at 10, 20, ..."""
TEAR = 65
"""After this step, the next checkpoint, at 70, is not finished."""
DAMAGE = 67
"""Killed here, a run has checkpoints at 60 and 50; the newest is then damaged."""
RESUMES = {
    "glassnet": "glassnet",
    "lightning": "Lightning",
    "lightning-loader": "Lightning, StatefulDataLoader",
    "lightning-random": "the same, random state kept by hand",
    "keras": "Keras",
}
FILES = {"glassnet": "glassnet", "lightning-loader": "Lightning", "keras": "Keras"}


@dataclass(frozen=True)
class Done:
    """What a worker printed, and its error where it failed."""

    result: dict[str, Any]
    error: str

    @property
    def outcome(self) -> str:
        """In a few words, of a run that was resumed."""
        return f"refused ({self.error})" if self.error else f"from step {self.result['from']}"


def work(name: str, task: str, folder: Path, *options: object) -> Done:
    """Run worker.py to its end."""
    command = [sys.executable, str(WORKER), name, task, str(folder), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Done(json.loads(done.stdout.splitlines()[-1]), "")
    if done.returncode < 0:
        return Done({}, signal.Signals(-done.returncode).name)
    if task != "train":
        sys.exit(f"{name} cannot {task}:\n{done.stderr}")
    raised = [line for line in done.stderr.splitlines() if line and not line[0].isspace()][-1]
    return Done({}, raised.split(":")[0].split(".")[-1])


def killed(name: str, folder: Path, *options: object) -> None:
    """Train until the process is killed, as it must be."""
    done = work(name, "train", folder, *options)
    if done.error not in ("SIGKILL", "SIGXFSZ"):
        sys.exit(f"{name} was not killed: {done}")


def resumed(name: str, place: Path) -> None:
    """The row of one way to resume."""
    whole, again = (work(name, "train", place / f"{name}-{number}").result for number in (1, 2))
    rows = []
    for step in KILLS:
        folder = place / f"{name}-{step}"
        killed(name, folder, "--kill", step)
        rows.append(work(name, "train", folder).result)
    same = sum(row["weights"] == whole["weights"] for row in rows)
    starts, ends = (", ".join(str(row[key]) for row in rows) for key in ("from", "to"))
    twice = "yes" if again["weights"] == whole["weights"] else "no"
    print(f"{RESUMES[name]:36} {twice:>5}  {starts:>12}  {ends:>14}  {same} of {len(rows)}", flush=True)


def torn(name: str, place: Path, flips: int) -> None:
    """The rows of checkpoints that a process died while writing, or that were damaged later."""
    found: Counter[str] = Counter()
    for number, share in enumerate(SHARES):
        folder = place / f"{name}-torn-{number}"
        killed(name, folder, "--tear", TEAR, "--share", share)
        found[work(name, "train", folder).outcome] += 1
    show(FILES[name], "killed in the middle of 70", found)
    base = place / f"{name}-base"
    killed(name, base, "--kill", DAMAGE)
    for newest in newest_of(name, base):
        found = Counter()
        for number, content in enumerate(cuts((base / newest).read_bytes())):
            folder = place / f"{name}-{newest.name}-{number}"
            shutil.copytree(base, folder)
            (folder / newest).write_bytes(content)
            found[work(name, "train", folder).outcome] += 1
        show(FILES[name], f"{newest.suffix} of 60 cut short", found)
    flipped = work(name, "flip", base, "--count", flips).result
    show(FILES[name], "one bit of 60 flipped", Counter(flipped))


def newest_of(name: str, folder: Path) -> list[Path]:
    """The files of the newest checkpoint, relative to the folder."""
    return [Path(path) for path in work(name, "newest", folder).result["files"]]


def show(name: str, what: str, found: Counter[str]) -> None:
    counts = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(found.items()))
    print(f"{name:10} {what:32} {counts}", flush=True)


def untrusted(name: str, place: Path, flips: int) -> None:
    """The rows of model files that were damaged, or made to run something."""
    folder = place / f"{name}-files"
    folder.mkdir()
    damaged = work(name, "damage", folder, "--count", flips).result
    show(FILES[name], "model cut short", Counter(damaged["cuts"]))
    show(FILES[name], "one bit of the model flipped", Counter(damaged["flips"]))
    for what, (ran, told) in work(name, "hostile", folder).result.items():
        print(f"{FILES[name]:10} {what:32} {'RAN' if ran else 'did not run'} ({told})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=400)
    options = parser.parse_args()
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)} is not installed: pip install {' '.join(NEEDED)}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print("; ".join(work(name, "version", place).result["version"] for name in FILES))
        print(f"\nKilled after {', '.join(map(str, KILLS))} of 135 updates, and resumed")
        print(f"{'':36} {'twice':>5}  {'goes on from':>12}  {'updates in all':>14}  same weights")
        for name in RESUMES:
            resumed(name, place)
        print("\nCheckpoints at 50 and 60, and one at 70 that is not finished: resumed")
        for name in FILES:
            torn(name, place, options.flips)
        print("\nModel files that are not trusted, by the default call")
        for name in FILES:
            untrusted(name, place, options.flips)


if __name__ == "__main__":
    main()

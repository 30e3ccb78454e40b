"""One framework at work, for compare.py: python worker.py NAME TASK FOLDER

The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from contest import Framework, Steps, Trap
from damage import cuts, flips, outcomes

FRAMEWORKS = {
    "glassnet": ("with_glassnet", "Glassnet", {}),
    "lightning": ("with_lightning", "Lightning", {}),
    "lightning-loader": ("with_lightning", "Lightning", {"stateful": True}),
    "lightning-random": ("with_lightning", "Lightning", {"stateful": True, "random_state": True}),
    "keras": ("with_keras", "Keras", {}),
}


def framework(name: str) -> Framework:
    """The framework, imported."""
    module, kind, settings = FRAMEWORKS[name]
    return getattr(importlib.import_module(module), kind)(**settings)


def train(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    """Train, or go on; the step before the first and the digest of the final weights."""
    steps = Steps(options.kill, options.tear, options.share, lambda: used.newest(options.folder)[0])
    weights = used.train(options.folder, steps)
    return {"from": steps.heard[0] - 1, "to": steps.heard[-1], "weights": weights}


def damage(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    """A model file with bits flipped, or cut short."""
    path = options.folder / f"model{used.suffix}"
    used.save(path)
    content = path.read_bytes()
    return {
        "cuts": outcomes(lambda: used.load(path), path, cuts(content)),
        "flips": outcomes(lambda: used.load(path), path, flips(content, options.count)),
    }


def flip(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    """The newest checkpoint with bits flipped."""
    path = used.newest(options.folder)[0]
    damaged = flips(path.read_bytes(), options.count)
    return outcomes(lambda: used.restore(options.folder), path, damaged)


def hostile(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    """Of each file that tries to run something: whether it did, and how loading it ended."""
    trap, found = Trap(options.folder / "sprung"), {}
    for name, path in used.hostile(options.folder, trap).items():
        try:
            used.load(path)
            told = "loaded"
        except Exception as error:
            told = f"refused: {type(error).__name__}"
        found[name] = [trap.marker.exists(), told]
        if trap.marker.exists():
            trap.marker.rmdir()
    return found


def newest(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    """The files of the newest checkpoint, relative to the folder."""
    return {"files": [str(path.relative_to(options.folder)) for path in used.newest(options.folder)]}


def version(used: Framework, options: argparse.Namespace) -> dict[str, Any]:
    return {"version": used.version()}


TASKS = {task.__name__: task for task in (train, damage, flip, hostile, newest, version)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=FRAMEWORKS)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--tear", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--count", type=int, default=400)
    options = parser.parse_args()
    print(json.dumps(TASKS[options.task](framework(options.name), options)))


if __name__ == "__main__":
    main()

"""What runs of a recipe gave, as it is kept and shown: one JSON file a recipe, all seeds in it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from os import cpu_count
from pathlib import Path
from statistics import fmean
from typing import Any

import glassnet
from glassnet.errors import FileFormatError, MissingEngineError
from glassnet.train import TrainConfig

LIBRARIES = ("numpy", "numba", "llvmlite")


@dataclass(frozen=True)
class SeedResult:
    """One run. seconds: training with its validation. curve: a row an epoch. log: the publication's lines."""

    seed: int
    test_accuracy: float | None
    train_accuracy: float | None
    seconds: float
    backend: str
    curve: tuple[dict[str, Any], ...] = ()
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """All runs of a recipe with one set of settings, and what they were run with."""

    recipe: str
    settings: dict[str, Any]
    seeds: tuple[SeedResult, ...]
    versions: dict[str, str]

    def mean(self, what: str) -> float | None:
        """The mean of a figure over the seeds, None where there is none."""
        values = self.values(what)
        return fmean(values) if values else None

    def values(self, what: str) -> list[float]:
        """A figure of every seed that has it."""
        return [value for run in self.seeds if (value := getattr(run, what)) is not None]

    @property
    def fastest(self) -> float:
        """Seconds of the fastest seed."""
        return min(self.values("seconds"))

    def summary(self) -> dict[str, Any]:
        """The figures that are compared: means over the seeds; the spread is (least, greatest).

        seconds: of the fastest seed, for what slows a run down is what else the machine does.
        """
        tests = self.values("test_accuracy")
        return {
            "recipe": self.recipe,
            "test_accuracy": self.mean("test_accuracy"),
            "train_accuracy": self.mean("train_accuracy"),
            "seconds": self.fastest,
            "seeds": len(self.seeds),
            "spread": [min(tests), max(tests)] if tests else None,
        }

    def to_json(self) -> str:
        """The text of the result file."""
        plain = self.summary() | {"versions": self.versions, "settings": self.settings}
        return json.dumps(plain | {"runs": [asdict(run) for run in self.seeds]}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Result:
        """The inverse of to_json; `source` names the text in errors."""
        try:
            plain = json.loads(text)
            runs = tuple(SeedResult(**run) for run in plain["runs"])
            return cls(plain["recipe"], plain["settings"], runs, plain["versions"])
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{source} is not the result of a recipe: {error!r}.") from error


class Finished:
    """The seeds of a recipe that are done, kept in a folder, so that a long run goes on with the next one."""

    def __init__(self, folder: Path, recipe: str, settings: dict[str, Any], *, runs_of: str = "") -> None:
        self.folder, self.recipe, self.settings = folder / recipe, recipe, settings
        self._runs = folder / (runs_of or recipe)

    def run_folder(self, seed: int) -> Path:
        """Where the run of that seed is, or will be."""
        return self._runs / f"seed-{seed}"

    def get(self, seed: int) -> SeedResult | None:
        """The kept result of that seed, if it was run with the settings of now."""
        path = self._path(seed)
        if not path.exists():
            return None
        kept = Result.from_json(path.read_text(encoding="utf-8"), str(path))
        return kept.seeds[0] if same_settings(kept.settings, self.settings) else None

    def put(self, result: SeedResult) -> None:
        """Keep it."""
        write(self._path(result.seed), self.all([result]))

    def all(self, results: Sequence[SeedResult]) -> Result:
        """These results as one."""
        return Result(self.recipe, self.settings, tuple(results), versions())

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.json"


def same_settings(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether they say the same; a setting that is not in the older ones was at its default."""
    now, defaults = json.loads(json.dumps(now)), TrainConfig(data="").to_dict() | {"rates": {}}
    return kept.keys() <= now.keys() and all(
        kept.get(key, defaults.get(key)) == value for key, value in now.items()
    )


def write(path: Path, result: Result) -> None:
    """One result file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.to_json(), encoding="utf-8")


def shipped() -> dict[str, Result]:
    """The results that come with the package, by recipe."""
    found = sorted(
        (file for file in files("glassnet.recipes").joinpath("results").iterdir()), key=lambda f: f.name
    )
    results = [
        Result.from_json(f.read_text(encoding="utf-8"), f.name) for f in found if f.name.endswith(".json")
    ]
    return {result.recipe: result for result in results}


def versions() -> dict[str, str]:
    """What decides speed, and could decide bits."""
    return {
        "glassnet": glassnet.__version__,
        "python": platform.python_version(),
        **{name: installed(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processors": str(cpu_count()),
    }


def processor() -> str:
    """The processor in the words of LLVM, znver5 or neoverse-n1; without it, the kind alone."""
    try:
        from glassnet.engine.machine.cpu import host
    except MissingEngineError:
        return platform.machine()
    return host().name


def installed(name: str) -> str:
    """The version of a library, or that there is none: Numba is not needed everywhere."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

"""Fuzzing guided by coverage: pip install atheris, then python tests/faults/guided.py READER [options].

Runs until it is stopped or finds a failure as fuzz.py means it. The options are libFuzzer's: -runs=100000 or
-max_total_time=60 end it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

with atheris.instrument_imports(include=["glassnet", "zipfile", "gzip", "json", "tomllib"]):
    from faults.fuzz import Watch, outcome
    from faults.readers import readers, same


def main() -> None:
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        reader, watch = readers(folder)[name], Watch()
        corpus, path = folder / "corpus", folder / reader.file
        corpus.mkdir()
        for i, (content, _) in enumerate(reader.seeds):
            (corpus / f"{i}").write_bytes(content)
        wraps = [wrap for _, wrap in reader.seeds]

        def once(content: bytes) -> None:
            for wrap in dict.fromkeys(wraps):
                path.write_bytes(wrap(content))
                verdict = outcome(reader, path, watch, guarded=wrap is same)
                if verdict not in ("read", "refused"):
                    raise RuntimeError(verdict)

        atheris.Setup([*sys.argv, str(corpus)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

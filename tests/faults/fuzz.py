"""Feed damaged files to every reader: python tests/faults/fuzz.py --reader all --inputs 100000

A reader may read a file or refuse it with an error of glassnet (or an OSError that names the file). Anything
else is a failure: another exception, a warning, over --seconds for one file, over 1 GiB of memory above the
base, another file opened, a network or process started. Each failure is saved, and the command exits with 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from faults.edits import Edit, edited  # noqa: E402
from faults.readers import Reader, readers, same  # noqa: E402
from glassnet.errors import GlassnetError  # noqa: E402

MEMORY = 1 << 30
EXAMPLES = 3
"""Files that are kept of one kind of failure."""
LIBRARIES = tuple({str(Path(folder).resolve()) for folder in (sys.prefix, sys.base_prefix, ROOT / "src")})
FORBIDDEN = (
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
)


class TooLong(BaseException):
    """No `except Exception` of a reader catches it."""


class Watch:
    """What the interpreter reports while a file is read."""

    def __init__(self) -> None:
        self.file: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.file is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode(errors="replace")
            if path != self.file and not path.startswith(LIBRARIES) and ".labels.u8" not in path:
                self.seen.append(f"open {path}")


def outcome(reader: Reader, path: Path, watch: Watch, *, guarded: bool) -> str:
    """Either "read", or "refused", or what went wrong."""
    error: BaseException | None = None
    watch.file = str(path)
    try:
        result = reader.read(path)
    except (Exception, TooLong) as raised:
        error = raised
    finally:
        watch.file, seen, watch.seen = None, watch.seen, []
    if seen:
        return "\n".join(seen)
    if error is None:
        altered = guarded and reader.original and result not in reader.original
        return "A damaged file was read as another one." if altered else "read"
    named = isinstance(error, GlassnetError) or (isinstance(error, OSError) and error.filename is not None)
    return "refused" if named else "".join(traceback.format_exception(error))


def damaged(reader: Reader, source: random.Random) -> tuple[bytes, bool]:
    """(a file, whether its damage is under no right checksum)."""
    content, wrap = source.choice(reader.seeds)
    other, _ = source.choice(reader.seeds)
    edits = [Edit.drawn(source) for _ in range(source.choice((1, 1, 2, 3, 5)))]
    inside = edited(content, edits, other)
    return wrap(inside), wrap is same


def fuzz(name: str, reader: Reader, options: argparse.Namespace, folder: Path, watch: Watch) -> int:
    """Failures among that many files."""
    path = folder / reader.file
    source = random.Random(f"{name} {options.seed}")
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest, start = 0.0, time.perf_counter()
    for number in range(options.inputs):
        content, guarded = damaged(reader, source)
        path.write_bytes(content)
        begin = time.perf_counter()
        signal.setitimer(signal.ITIMER_PROF, options.seconds)
        faulthandler.dump_traceback_later(30 * options.seconds, exit=True)  # for a hang without CPU time
        verdict = outcome(reader, path, watch, guarded=guarded)
        signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.perf_counter() - begin)
        counts[verdict if verdict in ("read", "refused") else "failed"] += 1
        if verdict not in ("read", "refused"):
            last = verdict.strip().splitlines()[-1][:200]
            kinds[last] += 1
            if kinds[last] <= EXAMPLES:
                saved = options.keep / f"{name}-{options.seed}-{number}{''.join(path.suffixes)}"
                saved.parent.mkdir(parents=True, exist_ok=True)
                saved.write_bytes(content)
                saved.with_name(saved.name + ".txt").write_text(verdict)
                print(f"{name}: {saved}: {last}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    results = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("read", "refused", "failed"))
    took = f"{time.perf_counter() - start:.0f} s, slowest {1000 * slowest:.0f} ms, process at most {peak} MiB"
    print(f"{name}: {options.inputs} inputs, {results}; {took}", flush=True)
    return counts["failed"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", nargs="+", default=["all"], help="names of readers, or all")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU time, limit for one file")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for files that fail")
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, too_long)
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch:
        known = readers(Path(scratch))
        names = list(known) if options.reader == ["all"] else options.reader
        if not set(names) <= known.keys():
            parser.error(f"--reader takes all, or some of {', '.join(known)}")
        chosen = {name: known[name] for name in names}
        for name, reader in chosen.items():
            warm_up(name, reader, Path(scratch), watch)
        limit_memory()
        failures = [fuzz(name, reader, options, Path(scratch), watch) for name, reader in chosen.items()]
    return 1 if any(failures) else 0


def too_long(number: int, frame: object) -> None:
    raise TooLong


def warm_up(name: str, reader: Reader, folder: Path, watch: Watch) -> None:
    """Read each seed undamaged, which must succeed, and which imports what is imported on first use."""
    for content, wrap in reader.seeds:
        path = folder / reader.file
        path.write_bytes(wrap(content))
        verdict = outcome(reader, path, watch, guarded=True)
        assert verdict == "read", f"{name}: an undamaged file is not read: {verdict}"


def limit_memory() -> None:
    """No more address space than there is now and MEMORY."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())

"""Machine code kept on disk, so that a second process loads in about a millisecond what the first compiled.

A folder is named after everything that decides its contents: the sources of the engine, the versions of
Python, Numba, llvmlite and the processor. It can therefore not go stale. Files are written beside and
renamed, and carry a checksum: any number of processes may share them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import llvmlite.binding as llvm

from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.llvm import Loader, target_machine, uninterrupted

logger = logging.getLogger(__name__)

_CHECKSUM = hashlib.sha256
_FOLDERS_KEPT = 4


class Code(Protocol):
    """A kernel or a tile: something that compiles to one function."""

    @property
    def name(self) -> str:
        """A short name for messages and files."""

    def fingerprint(self) -> bytes:
        """What decides the machine code besides the engine's sources and the processor."""

    def module(self, cpu: Cpu, symbol: str) -> llvm.ModuleRef:
        """LLVM IR, ready for code generation, that defines the function `symbol`."""


def address(code: Code, cpu: Cpu) -> int:
    """Address of the function that `code` compiles to, taken from disk where an earlier process left it."""
    return _store(folder(), cpu).address(code)


def compile_all(codes: Iterable[Code], cpu: Cpu) -> int:
    """Compile whatever of `codes` is not on disk yet, telling the log before each; returns how many."""
    store = _store(folder(), cpu)
    missing = [code for code in dict.fromkeys(codes) if not store.has(code)]
    for k, code in enumerate(missing, 1):
        logger.info("Compiling %d of %d kernels (once): %s", k, len(missing), code.name)
        store.address(code)
    return len(missing)


def folder() -> Path:
    """Where machine code is kept: GLASSNET_CACHE, or the platform's folder for caches."""
    if override := os.environ.get("GLASSNET_CACHE"):
        return Path(override)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "glassnet" / "machine-code"


class Store:
    """The machine code for one processor, in memory and in one folder under `root`."""

    def __init__(self, root: Path, cpu: Cpu) -> None:
        self._cpu = cpu
        self._folder = root / _engine_key(cpu)
        self._addresses: dict[str, int] = {}
        self._lock = threading.RLock()

    def has(self, code: Code) -> bool:
        key = self._key(code)
        return key in self._addresses or self._path(code, key).exists()

    def address(self, code: Code) -> int:
        key = self._key(code)
        with self._lock:
            if key not in self._addresses:
                with uninterrupted():
                    machine_code = self._read(code, key) or self._compile(code, key)
                    self._addresses[key] = _loader().load(machine_code, _symbol(key))
            return self._addresses[key]

    def _key(self, code: Code) -> str:
        return hashlib.sha256(self._folder.name.encode() + code.fingerprint()).hexdigest()[:32]

    def _path(self, code: Code, key: str) -> Path:
        return self._folder / f"{code.name}-{key}.o"

    def _compile(self, code: Code, key: str) -> bytes:
        logger.debug("compiling %s", code.name)
        machine_code = bytes(target_machine(self._cpu).emit_object(code.module(self._cpu, _symbol(key))))
        try:
            self._write(self._path(code, key), machine_code)
        except OSError as error:
            _warn_once(f"Compiled code cannot be kept, so that every start compiles anew: {error}.")
        return machine_code

    def _read(self, code: Code, key: str) -> bytes | None:
        try:
            content = self._path(code, key).read_bytes()
        except OSError:
            return None
        checksum, machine_code = content[: _CHECKSUM().digest_size], content[_CHECKSUM().digest_size :]
        return machine_code if _CHECKSUM(machine_code).digest() == checksum else None

    def _write(self, path: Path, machine_code: bytes) -> None:
        if not self._folder.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            _prune(self._folder.parent)
        handle, beside = tempfile.mkstemp(dir=self._folder, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_CHECKSUM(machine_code).digest() + machine_code)
            os.replace(beside, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            Path(beside).unlink(missing_ok=True)
            raise


def _prune(root: Path) -> None:
    """Delete all but the newest folders under `root`; another process may be doing the same."""
    ages = {path: path.stat().st_mtime for path in root.iterdir() if path.is_dir()}
    for path in sorted(ages, key=ages.__getitem__, reverse=True)[_FOLDERS_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _engine_key(cpu: Cpu) -> str:
    versions = [platform.python_version(), _version("numba"), _version("llvmlite")]
    described = "\n".join([*versions, cpu.name, cpu.features, cpu.triple, str(cpu.lanes)])
    return hashlib.sha256(_engine_sources() + described.encode()).hexdigest()[:16]


@functools.cache
def _engine_sources() -> bytes:
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _symbol(key: str) -> str:
    return f"glassnet_{key}"


@functools.cache
def _store(root: Path, cpu: Cpu) -> Store:
    return Store(root, cpu)


@functools.cache
def _loader() -> Loader:
    return Loader()


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning(message)

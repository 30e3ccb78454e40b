"""One process at a time in a run folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from glassnet.errors import RunFolderError


class RunLock:
    """Holds a run folder for this process: `with RunLock(folder): ...`.

    The operating system holds the lock and drops it when the process ends, however it ends, even if a
    process that it forked lives on. The file .lock stays in the folder, with the holder's process number.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._file = self.folder / ".lock"
        self._lock = FileLock(self._file, timeout=0, thread_local=False)

    def __enter__(self) -> RunLock:
        """Take the lock, or raise RunFolderError at once."""
        if not self.folder.is_dir():
            raise RunFolderError(f"There is no run folder {self.folder}. Check its name.")
        try:
            self._lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                f"The run folder {self.folder} is in use by {self._holder()}. "
                "Wait until it is done, or stop it."
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"The run folder {self.folder} cannot be locked: {error.strerror}. "
                "Give this user the right to write there, or choose another place."
            ) from error
        self._sign(str(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sign("")
        self._lock.release()

    def _sign(self, holder: str) -> None:
        """Note who holds the lock, for messages only: a full disk, or Windows, may not let us."""
        with suppress(OSError):
            self._file.write_text(holder, encoding="ascii")

    def _holder(self) -> str:
        try:
            number = self._file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            number = ""
        return f"process {number}" if number.isdecimal() else "another process"

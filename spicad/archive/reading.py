"""Foreign headers are read in a process of their own, with limits: whatever a file does to it, the daemon goes on.

One such process serves many files, asked and answering by lines of JSON over pipes. A file that kills it or takes too
long is refused by name, and the next file gets a new one. What is read is registering.py's.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spicad.archive.instruments import Instruments, instruments_in
from spicad.archive.registering import Record, as_line, from_line, read_for_archive
from spicad.fits import FitsProblem
from spicad.words import BadInput, Problem, SpicaError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from spicad.archive.reading import serve; serve()"
AHEAD = 2  # files asked for before the first is answered
START_S = 60.0
MOST_ANSWER = 32 << 20  # bytes
RECORD, OF_FITS, OF_INPUT = b"R", b"F", b"I"  # with which an answer begins


@dataclass(frozen=True)
class Limits:
    """Of one reading process; seconds are of one file."""

    memory_mb: int = 768  # address space; Python itself takes some 60
    cpu_s: int = 60  # a gzip of 4 GiB takes 15
    time_s: float = 120.0


class Reader:
    """Reads files for the archive, one process behind it. Threads take turns."""

    def __init__(self, instruments: Path, limits: Limits = Limits()) -> None:
        self.instruments, self.limits = instruments, limits
        self._child: subprocess.Popen[bytes] | None = None
        self._held = b""
        self._lock = threading.Lock()

    def read(self, path: Path | str) -> Record:
        """Raises BadInput or FitsProblem with the reason for which the archive does not take the file."""
        [(_, answer)] = self.read_all([path])
        if isinstance(answer, SpicaError):
            raise answer
        return answer

    def read_all(self, paths: Iterable[Path | str]) -> Iterator[tuple[str, Record | SpicaError]]:
        """Each path with its record or its refusal, in order. The next files are read while one is looked at."""
        with self._lock:
            coming = iter([os.fspath(path) for path in paths])
            asked: deque[str] = deque()
            try:
                while self._ask_ahead(coming, asked):
                    answer = self._answer(asked)
                    yield asked.popleft(), answer
            finally:
                if asked:  # who asked went away: what is still to be answered is no concern of the next
                    self._end()

    def close(self) -> None:
        with self._lock:
            self._end()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_ahead(self, coming: Iterator[str], asked: deque[str]) -> bool:
        if not asked and self._child is not None and self._child.poll() is not None:
            self._end()  # of itself, between two files: none is to blame
        while len(asked) < AHEAD:
            path = next(coming, None)
            if path is None:
                break
            asked.append(path)
            self._ask(path)
        return bool(asked)

    def _ask(self, path: str) -> None:
        child = self._child or self._start()
        assert child.stdin is not None
        with suppress(OSError):  # it died of the file before, which _answer tells and asks anew
            child.stdin.write(json.dumps(path).encode() + b"\n")

    def _answer(self, asked: deque[str]) -> Record | SpicaError:
        """Of the first path asked for; where it takes the process with it, the others are asked for anew."""
        line = self._line(self.limits.time_s)
        if line is not None:
            return _understood(asked[0], line)
        why = self._end()
        for path in list(asked)[1:]:
            self._ask(path)
        return FitsProblem(asked[0], why, "Look at it by hand: spica headers FILE.")

    def _line(self, patience_s: float) -> bytes | None:
        """None when the process died, was too slow, or answers without end."""
        child, until = self._child, time.monotonic() + patience_s
        assert child is not None
        assert child.stdout is not None
        while b"\n" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                return None
            piece = os.read(child.stdout.fileno(), 1 << 20)
            self._held += piece
            if not piece or len(self._held) > MOST_ANSWER:
                return None
        line, _, self._held = self._held.partition(b"\n")
        return line

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, str(self.instruments), json.dumps(vars(self.limits))]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        for name in ("SPICA_CONF", "PYTHONDONTWRITEBYTECODE"):
            if name in os.environ:
                environment[name] = os.environ[name]
        self._held = b""
        self._child = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        if self._line(START_S) is None:
            raise SpicaError(f"Headers cannot be read apart: {self._end()}")
        return self._child

    def _end(self) -> str:
        """Ends the process; how it ended, in words about the file that it was reading."""
        child, self._child, self._held = self._child, None, b""
        if child is None:
            return ""
        code = self._code(child)
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()
        return self._why(code)

    def _code(self, child: subprocess.Popen[bytes]) -> int:
        """Of its own end, when its pipe is closed already; else it is killed."""
        assert child.stdout is not None
        if select.select([child.stdout], [], [], 0)[0] and not os.read(child.stdout.fileno(), 1):
            with suppress(subprocess.TimeoutExpired):
                return child.wait(5)
        child.kill()
        return child.wait()

    def _why(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            return f"takes more than {self.limits.cpu_s} s of computing to read."
        if code == -signal.SIGKILL:
            return f"takes longer than {self.limits.time_s:g} s to read, or more memory than there is."
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return f"ended the program that read it ({how})."


def _understood(path: str, line: bytes) -> Record | SpicaError:
    kind, said = line[:1], line[1:]
    try:
        if kind == RECORD:
            return from_line(said.decode())
        if kind == OF_FITS:
            return FitsProblem(path, *json.loads(said))
        return BadInput(Problem(source, what, mend) for source, what, mend in json.loads(said))
    except (ValueError, TypeError):
        return FitsProblem(path, "made the program that read it answer nonsense.", "Look at it by hand.")


# In the process


def serve() -> None:
    """Answers one path a line until nobody asks."""
    instruments = instruments_in(Path(sys.argv[1]))
    limits = Limits(**json.loads(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_mb << 20, limits.memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # a traceback, where errors go to a file
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever is printed is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # hardly anything here is in a circle: looking for such cost a sixth of the time
    gc.set_threshold(100_000)
    out.write(b"\n")  # ready
    for line in sys.stdin.buffer:
        _allow_cpu(limits.cpu_s)
        answer = _answer(json.loads(line), instruments) + b"\n"
        while answer:
            answer = answer[out.write(answer) :]


def _allow_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _answer(path: str, instruments: Instruments) -> bytes:
    try:
        return RECORD + as_line(read_for_archive(path, instruments)).encode()
    except FitsProblem as error:
        return OF_FITS + json.dumps([error.what, error.mend]).encode()
    except BadInput as error:
        return OF_INPUT + json.dumps([[each.source, each.what, each.mend] for each in error.problems]).encode()
    except MemoryError:
        what = "takes more memory to read than is given to a header."
        return OF_FITS + json.dumps([what, "Look at it by hand."]).encode()

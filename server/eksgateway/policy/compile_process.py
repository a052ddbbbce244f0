"""Compiles policy data in a child process, because large data would hold the interpreter's lock for seconds.

    gateway ── sources ──► stdin ┌───────┐ stdout ──► a compiled policy, or faults
                                 │ child │
               deadline ── kill ►└───────┘◄── ends itself once nothing reads its stdout

The child gets the sources, and of the environment only what Python needs to start. If it crashes, hangs or
needs too much memory, the error is a PolicyLoadError, and the policy from before stays in force.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from eksgateway.blocking import run_blocking
from eksgateway.policy.compiled_policy import CompiledPolicy, compile_policy
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.source import SourceFile

_SMALL_BYTES: Final = 8 << 10  # with sets and aliases they stand for a hundred times as much
_DEADLINE_S: Final = 60.0
_MAX_MEMORY_BYTES: Final = 1 << 30
_NICENESS: Final = 10  # calls go first
_VALUES: Final = ("revision", "counts", "ages", "rules_end")
_BLOBS: Final = ("data", "digests", "edges", "questions")
_INHERITED: Final = ("LD_LIBRARY_PATH", "PYTHONHOME")  # for Python itself


async def compile_sources(sources: tuple[SourceFile, ...]) -> CompiledPolicy:
    """``compile_policy`` off the event loop: small sources on a thread, others in a child process."""
    if sum(len(source.raw) for source in sources) <= _SMALL_BYTES:
        return await run_blocking(compile_policy, sources)
    return await run_blocking(compile_in_child, sources)


def compile_in_child(
    sources: tuple[SourceFile, ...],
    *,
    deadline_s: float = _DEADLINE_S,
    command: tuple[str, ...] = (sys.executable, "-P", "-m", __name__),
) -> CompiledPolicy:
    """``compile_policy``, also for its errors. Blocks."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
    try:
        child = subprocess.Popen(  # noqa: S603 - vforks: a forked child may crash beside gRPC's threads
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal is for the gateway
        )
    except OSError as exc:
        raise PolicyLoadError(f"no process can be started that compiles the policy: {exc.strerror}") from exc
    with child:
        try:
            out, err = child.communicate(_pack_sources(sources), timeout=deadline_s)
        except subprocess.TimeoutExpired:
            raise PolicyLoadError(f"the policy takes more than {deadline_s:g} s to compile") from None
        finally:
            child.kill()
    if child.returncode:
        raise PolicyLoadError(_explain_end(child.returncode, err))
    try:
        return _unpack_result(out)
    except (KeyError, TypeError, ValueError) as exc:
        text = "the process that compiles the policy gave no result: does something print at Python's start?"
        raise PolicyLoadError(text) from exc


def main() -> None:
    """Runs in the child."""
    limit = _restrict()
    threading.Thread(target=_end_with_reader, daemon=True).start()
    try:
        result = _pack_policy(compile_policy(_unpack_sources(sys.stdin.buffer.read())))
    except PolicyLoadError as exc:
        result = _pack({"error": str(exc), "faults": exc.faults})
    except MemoryError:
        text = f"the policy needs more than {limit >> 20} MB of memory to compile: write fewer entries"
        result = _pack({"error": text, "faults": [text]})
    sys.stdout.buffer.write(result)
    sys.stdout.buffer.flush()


def _restrict() -> int:
    """Returns the limit of this process's memory, in bytes."""
    os.nice(_NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # on Linux: the kernel ends this process before the gateway
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return limit


def _end_with_reader() -> None:
    """A gateway that is killed closes the pipe's other end."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    poll.poll()
    os._exit(1)


def _explain_end(code: int, err: bytes) -> str:
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"the process that compiles the policy ended {how}{f': {last:.500}' if last else ''}"


def _pack_sources(sources: tuple[SourceFile, ...]) -> bytes:
    head = {"files": [[str(source.path), len(source.raw)] for source in sources]}
    return _pack(head, *(source.raw for source in sources))


def _unpack_sources(packed: bytes) -> tuple[SourceFile, ...]:
    head, rest = _unpack(packed)
    raws = _cut(rest, [size for _, size in head["files"]])
    return tuple(SourceFile(Path(path), raw) for (path, _), raw in zip(head["files"], raws, strict=True))


def _pack_policy(policy: CompiledPolicy) -> bytes:
    blobs = [getattr(policy, name) for name in _BLOBS]
    values = {name: getattr(policy, name) for name in _VALUES}
    return _pack({"values": values, "sizes": list(map(len, blobs))}, *blobs)


def _unpack_result(packed: bytes) -> CompiledPolicy:
    head, rest = _unpack(packed)
    if "error" in head:
        raise PolicyLoadError(head["error"], tuple(head["faults"]))
    blobs: dict[str, Any] = dict(zip(_BLOBS, _cut(rest, head["sizes"]), strict=True))
    return CompiledPolicy(**blobs, **head["values"])


def _pack(head: dict[str, Any], *blobs: bytes) -> bytes:
    return b"\n".join((json.dumps(head).encode(), b"".join(blobs)))


def _unpack(packed: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, rest = packed.partition(b"\n")
    return json.loads(head), rest


def _cut(content: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(content[at : at + size])
        at += size
    return pieces


if __name__ == "__main__":
    main()

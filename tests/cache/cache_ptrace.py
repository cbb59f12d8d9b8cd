"""Kill a child at its n-th system call that writes, or let that call fail, from outside: it is traced, so nothing can slip by.

x86-64 Linux only; `possible()` tells.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable

_TRACEME, _PEEKUSER, _POKEUSER, _SYSCALL, _SETOPTIONS = 0, 3, 6, 24, 0x4200
_SYSGOOD, _EXITKILL = 1, 0x100000
_ORIG_RAX, _RAX, _RDX = 15 * 8, 10 * 8, 12 * 8
_OPENAT = 257
WRITING = {
    1: "write", 18: "pwrite", 20: "writev", 40: "sendfile", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename",
    83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink", 88: "symlink", 90: "chmod", 91: "fchmod", 258: "mkdirat", 263: "unlinkat",
    264: "renameat", 265: "linkat", 268: "fchmodat", 280: "utimensat", 316: "renameat2", 326: "copy_file_range",
}  # fmt: skip
ALL = frozenset({"open", *WRITING.values()})
#: What a full disk refuses.
NEEDS_ROOM = ALL - {"fsync", "fdatasync", "truncate", "ftruncate", "unlink", "unlinkat", "rmdir"}
NEEDS_ROOM -= {"chmod", "fchmod", "fchmodat", "utimensat"}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    result = int(_libc.ptrace(request, pid, address, data))
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _peek(pid: int, offset: int) -> int:
    return struct.unpack("<q", struct.pack("<q", _ptrace(_PEEKUSER, pid, offset)))[0]


def _writes(pid: int) -> str:
    """Name of the system call a child is about to make, if it writes."""
    number = _peek(pid, _ORIG_RAX)
    if number == _OPENAT:
        return "open" if _peek(pid, _RDX) & (os.O_CREAT | os.O_TRUNC) else ""
    return WRITING.get(number, "")


def run_killed(work: Callable[[], None], kill_at: int) -> tuple[list[str], bool]:
    """Run `work` in a child and kill it just before its `kill_at`-th writing system call (from 1).

    Returns the names of the writing calls up to there, and whether it ended by itself (its work was done before).
    """
    return _run(work, kill_at, 0, ALL)


def run_failing(work: Callable[[], None], fail_at: int, error: int, *, once: bool) -> tuple[list[str], bool]:
    """The same, but the `fail_at`-th call that needs room fails with `error`, and all later ones unless `once`; it must end by itself.

    Returns whether no call failed (its work was done before).
    """
    return _run(work, fail_at, error, NEEDS_ROOM, once=once)


def _run(work: Callable[[], None], at: int, error: int, names: frozenset[str], *, once: bool = False) -> tuple[list[str], bool]:
    pid = os.fork()
    if pid == 0:
        _child(work)
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, 0, _SYSGOOD | _EXITKILL)
    seen: list[str] = []
    entering, failing, deliver = True, False, 0
    while True:
        _ptrace(_SYSCALL, pid, 0, deliver)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
                return seen, len(seen) < at
            raise AssertionError(f"the child failed by itself (status {status:#x}) after {seen[-5:]}")
        deliver = 0
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            deliver = os.WSTOPSIG(status)
            continue
        if entering and (name := _writes(pid)) in names:
            seen.append(name)
            if len(seen) >= at and not error:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return seen, False
            failing = len(seen) == at or (len(seen) > at and not once)
            if failing:
                _ptrace(_POKEUSER, pid, _ORIG_RAX, -1)  # no such call, so the kernel does nothing
        elif failing:
            _ptrace(_POKEUSER, pid, _RAX, -error)
            failing = False
        entering = not entering


def _child(work: Callable[[], None]) -> None:
    try:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    except BaseException as error:
        print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(3)


def possible() -> bool:
    """Whether children can be traced here."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        return run_killed(lambda: None, 10**9)[1]
    except (OSError, AssertionError):
        return False

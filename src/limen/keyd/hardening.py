"""What keyd asks of the kernel before it touches a key: no core dumps, no ptrace, no new privileges, no swap.

Memory protection is best effort and said to be: Python copies ``bytes``, so keys cannot be erased for
certain; they can be kept off the disk and out of reach of other users.
"""

import contextlib
import ctypes
import resource

from limen.keyd.errors import CannotStart

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4

_libc = ctypes.CDLL(None, use_errno=True)


def lock_memory() -> bool:
    """Keep this process's pages out of swap; whether it worked.

    Only where no limit stands against it: with a limit, locking future pages makes later allocations fail.
    """
    with contextlib.suppress(ValueError, OSError):  # raising the limit needs CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        return False
    locked: int = _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    return locked == 0


def forbid_inspection() -> None:
    """No core dump, no ptrace by other processes of this user, no new privileges. Call after
    :func:`become`, since a change of identity sets the first of these anew.

    Raises:
        CannotStart: when the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
            raise CannotStart("the kernel does not let keyd protect its memory", fix="use a Linux kernel from 3.5 on")

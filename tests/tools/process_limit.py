"""What code does whose user may start no more processes."""

import os
import resource
from collections.abc import Callable

import pytest


def answer_with_processes(limit: int, ask: Callable[[], object]) -> str:
    """What `ask` returns or raises, as text, where the user may have `limit` processes and threads."""
    if os.geteuid():
        pytest.skip("only root may become a user without other processes")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
            user = 100_000 + os.getpid()  # nobody else's
            os.setresuid(user, user, user)
            answer = repr(ask())
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return answer

"""A build's tree of 200 processes: half nested, a quarter with own sessions, a quarter daemons. None minds TERM.

Run as `python -I -S tree.py TAG`; says `ready` once all of them are there. Needs nothing but the standard library.
"""

import os
import time

NESTED, OWN_SESSION, DAEMONS = 99, 50, 50  # and this one
DEPTH = 9


def stay(ready: int) -> None:
    os.write(ready, b"x")
    while True:
        time.sleep(3600)


def nested(ready: int, depth: int) -> None:
    """A chain, each the child of the one before."""
    if os.fork() == 0:
        if depth > 1:
            nested(ready, depth - 1)
        stay(ready)


def own_session(ready: int) -> None:
    if os.fork() == 0:
        os.setsid()
        stay(ready)


def daemon(ready: int) -> None:
    """Forked twice: its parent is gone."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            stay(ready)
        os._exit(0)
    os.waitpid(child, 0)


def main() -> None:
    reader, ready = os.pipe()
    for _ in range(NESTED // DEPTH):
        nested(ready, DEPTH)
    for _ in range(OWN_SESSION):
        own_session(ready)
    for _ in range(DAEMONS):
        daemon(ready)
    there = 0
    while there < NESTED + OWN_SESSION + DAEMONS:
        there += len(os.read(reader, 4096))
    print("ready", flush=True)
    while True:
        time.sleep(3600)


main()

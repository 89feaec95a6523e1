"""What our own processes run: `python -I -S .../start.py WHAT ARGUMENTS...`, as `interpreter` spells it.

Each of them is started for every push. So it comes without `runpy`, which `-m` needs, and without `site`, which cost
milliseconds each time. What is not in the standard library then waits for `interpreter`.
Python keeps no compiled copy of a script: it has to be short.
"""

import gc
import sys

gc.set_threshold(5_000)  # objects, in the place of 700: an import makes thousands, and none of them is garbage
sys.path.append(__file__.rsplit("/", 2)[0])  # at the end: nothing beside us may stand for the standard library


def _main(what: str, arguments: list[str]) -> None:
    # Nobody but our own code chooses `what`: what comes over ssh is an argument of `safepoint`.
    if what == "safepoint.git.hooks":
        from safepoint.git.hooks import run as hook

        hook(arguments)
    elif what == "safepoint.git.after_push":
        from safepoint.git.after_push import run as after_push

        after_push(arguments)
    elif what == "safepoint.worker":
        from safepoint.worker import main as worker

        sys.exit(worker(arguments))
    elif what == "safepoint":
        from safepoint.__main__ import main

        main(arguments)
    else:
        sys.exit(f"safepoint: {what!a} is nothing that could be started")


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])

"""How a step can end other than well. Raised by drivers and the engine, journalled by the executor."""


class Interrupted(Exception):
    """A wait or a command was cut short because the latch is set. What it ran is dead."""


class StepError(Exception):
    """A step failed. The text is one clause for people: `the build exited with status 2`."""


class Overtaken(Exception):
    """Somebody else has written to the journal since it was read: decide again. Nothing was written."""

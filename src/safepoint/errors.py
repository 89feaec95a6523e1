"""Errors that a person reads. Everything else that is raised is a defect, and is logged with a reference."""


class UserError(Exception):
    """What happened, then what to do. Printed as it is, without a traceback.

    `exit_code` is the status of the command that meets it: 1 unless something more precise is documented.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class NotFound(UserError):
    """A thing that was named does not exist."""


class NoSuchOperation(NotFound):
    exit_code = 6


def no_such_app(name: str) -> NotFound:
    """In one place, since what one may not see must read the same as what is not there."""
    return NotFound(f"there is no app named {name}", "`apps` lists them, `apps:create NAME` makes one")


def no_such_operation(number: int) -> NoSuchOperation:
    """As `no_such_app`."""
    return NoSuchOperation(f"there is no operation {number}", "`operation:list` lists them")


class NotPermitted(UserError):
    exit_code = 5


class UsageError(UserError):
    """The words of a command or the contents of a file are wrong."""

    exit_code = 2

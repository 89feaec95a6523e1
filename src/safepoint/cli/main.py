"""The command line: `noun:verb`, as on Heroku, Dokku and Aptible. One file a noun."""

from __future__ import annotations

import io
import sys

import click

from safepoint import __version__, logs, machine
from safepoint.cli import apps, audit, config, doctor, hooks, keys, limits, operations, releases, server
from safepoint.cli.common import Session, home_option
from safepoint.control.follow import ReaderGone
from safepoint.core.wording import printable
from safepoint.errors import UsageError, UserError


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return (command.name if command else name), command, rest

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


_ALIASES = {"cancel": "operation:cancel", "follow": "operation:follow", "logs": "operation:logs"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="safepoint")
@home_option
def safepoint() -> None:
    """git push deploys an app onto your own server, and any running deploy can be taken back safely.

    Short aliases: cancel, follow and logs for operation:cancel, operation:follow and operation:logs.
    """


for _module in (apps, audit, config, doctor, hooks, keys, limits, operations, releases, server):
    for _command in _module.COMMANDS:
        safepoint.add_command(_command)


def run(arguments: list[str]) -> int:
    """Returns the exit status. Whatever happens, a person reads a sentence and no traceback."""
    session = Session()
    try:
        _check_text(arguments)
        result = safepoint.main(arguments, prog_name="safepoint", standalone_mode=False, obj=session)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        # It repeats what was typed; a script may have pasted it from anywhere.
        click.echo("\n".join(map(printable, said.getvalue().split("\n"))), err=True, nl=False)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except UserError as error:
        return _refused(error)
    except (BrokenPipeError, ReaderGone):
        return 1
    except Exception as error:
        if (trouble := machine.trouble(error)) is not None:
            return _refused(trouble)
        click.echo("safepoint: " + logs.defect(session.home, "the command failed"), err=True)
        return 1
    return result if isinstance(result, int) else 0


def _refused(error: UserError) -> int:
    click.echo(printable(f"safepoint: {error.message}"), err=True)
    if error.hint:
        click.echo(printable(f"    {error.hint}"), err=True)
    return error.exit_code


def _check_text(arguments: list[str]) -> None:
    """Raises UsageError. Bytes that are not UTF-8 come as surrogates, and neither SQLite nor a terminal takes those."""
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        raise UsageError("the words of that command are not UTF-8 text") from None


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""The command line: `noun:verb`, as on Heroku, Dokku and Aptible. One file a noun."""

from __future__ import annotations

import io
import sys

import click

from safepoint import __version__, logs, machine
from safepoint.cli.common import Session, home_option
from safepoint.control.follow import ReaderGone
from safepoint.core.wording import printable
from safepoint.errors import UsageError, UserError


class Verbs(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return (command.name if command else name), command, rest

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        self._load(name.partition(":")[0])
        return super().get_command(ctx, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.all())

    def all(self) -> dict[str, click.Command]:
        for noun in _NOUNS:
            self._load(noun)
        return dict(self.commands)

    def _load(self, noun: str) -> None:
        for command in _verbs(noun):
            self.add_command(command)


_NOUNS = (
    "apps", "audit", "config", "doctor", "hooks", "keys", "limits", "operation", "releases", "serve",
)  # fmt: skip
"""One a file."""


def _verbs(noun: str) -> tuple[click.Command, ...]:
    """The file's, and no other one is imported: all of them together take as long as click itself."""
    match noun:
        case "apps":
            from safepoint.cli import apps

            return apps.COMMANDS
        case "audit":
            from safepoint.cli import audit

            return audit.COMMANDS
        case "config":
            from safepoint.cli import config

            return config.COMMANDS
        case "doctor":
            from safepoint.cli import doctor

            return doctor.COMMANDS
        case "hooks":
            from safepoint.cli import hooks

            return hooks.COMMANDS
        case "keys" | "authorized-keys" | "shell":
            from safepoint.cli import keys

            return keys.COMMANDS
        case "limits":
            from safepoint.cli import limits

            return limits.COMMANDS
        case "operation" | "recover":
            from safepoint.cli import operations

            return operations.COMMANDS
        case "releases" | "deploy":
            from safepoint.cli import releases

            return releases.COMMANDS
        case "serve" | "demo":
            from safepoint.cli import server

            return server.COMMANDS
    return ()


_ALIASES = {"cancel": "operation:cancel", "follow": "operation:follow", "logs": "operation:logs"}


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="safepoint")
@home_option
def safepoint() -> None:
    """git push deploys an app onto your own server, and any running deploy can be taken back safely.

    Short aliases: cancel, follow and logs for operation:cancel, operation:follow and operation:logs.
    """


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

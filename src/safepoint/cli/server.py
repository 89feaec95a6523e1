"""serve, demo."""

from __future__ import annotations

import click

from safepoint.cli.common import Session, command


@command("serve")
@click.option("--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--ssh-port", type=click.IntRange(0, 65535), default=2222, show_default=True, help="0: any free one.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--keep-apps", is_flag=True, help="Leave the apps serving when this ends.")
def serve(session: Session, listen: str, ssh_port: int, http_port: int, keep_apps: bool) -> None:
    """Run everything that a server needs: the ssh git server, the apps' processes and the router."""
    from safepoint.serve import Options, serve  # paramiko is slow to import, and nobody else needs it

    serve(session.home, Options(listen, ssh_port, http_port, keep_apps), click.echo)


@command("demo")
@click.option("--exit", "exit_", is_flag=True, help="End after the tour; status 0 only if all of it was true.")
def demo(session: Session, exit_: bool) -> int:
    """A tour in a temporary home: serve, push a real app over ssh, see its page, cancel a second deploy."""
    from safepoint.demo import tour

    return tour(stay=not exit_)


COMMANDS = (serve, demo)

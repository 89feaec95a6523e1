"""doctor."""

from __future__ import annotations

import click

from safepoint.cli.common import Session, command, json_option, print_json
from safepoint.core.findings import Finding, exit_status, summary
from safepoint.core.wording import printable


@command("doctor")
@json_option
def doctor(session: Session, as_json: bool) -> int:
    """Say what this host gives Safepoint and what is not right. Changes nothing.

    Exit status: 0 when nothing is a problem, 1 when something is.
    """
    from safepoint.doctor.examine import examine  # it knows all drivers, and nobody else needs it

    findings = examine(session.home)
    if as_json:
        print_json([{"level": e.level, "about": e.about, "text": e.text, "advice": e.advice or None} for e in findings])
    else:
        for finding in findings:
            click.echo("\n".join(_lines(finding)))
        click.echo(f"\n{summary(findings)}")
    return exit_status(findings)


def _lines(finding: Finding) -> list[str]:
    advice = [f"{'':<23} {printable(finding.advice)}"] if finding.advice else []
    return [f"{finding.level:<8} {finding.about:<14} {printable(finding.text)}", *advice]


COMMANDS = (doctor,)

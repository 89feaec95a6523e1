"""The proc-receive protocol: against its description, and against a real git push."""

import io
import shlex
import sys
from pathlib import Path

import pytest
from forging import git, work_tree

from safepoint.core.refs import ProtocolError, RefUpdate
from safepoint.git import proc_receive
from safepoint.git.proc_receive import Request

A, B, ZERO = "a" * 40, "b" * 40, "0" * 40

HOOK = """\
import os, sys
from safepoint.git import proc_receive
request = proc_receive.read_request(sys.stdin.buffer, sys.stdout.buffer)
with open("request", "w") as file:
    print(request, file=file)
{body}
"""


def packets(*payloads: bytes | None) -> io.BytesIO:
    return io.BytesIO(b"".join(b"0000" if p is None else b"%04x" % (len(p) + 4) + p for p in payloads))


def test_the_handshake_and_the_commands() -> None:
    """Without push options there is no section for them, and none is asked for."""
    sink = io.BytesIO()
    source = packets(b"version=1\0atomic\n", None, f"{ZERO} {A} refs/heads/main\n".encode(), None)
    assert proc_receive.read_request(source, sink) == Request((RefUpdate(ZERO, A, "refs/heads/main"),), (), True)
    assert sink.getvalue() == b"000dversion=10000"


def test_push_options_where_git_offers_them() -> None:
    """The feature is accepted, and the section that follows is read."""
    sink = io.BytesIO()
    source = packets(
        b"version=1\0push-options atomic", None, f"{A} {B} refs/heads/main".encode(), None, b"a=b", b"\xff", None
    )
    request = proc_receive.read_request(source, sink)
    assert request.push_options == ("a=b", "\N{REPLACEMENT CHARACTER}")
    assert sink.getvalue() == b"001aversion=1\0push-options0000"


@pytest.mark.parametrize(
    "source",
    [
        packets(),
        packets(None),
        packets(b"version=2\0atomic", None),
        packets(b"version=1"),
        packets(b"version=1", None, b"nonsense", None),
        packets(b"version=1", None, f"{A} {B} refs/heads/main".encode()),
        packets(b"version=1", None, *[f"{A} {B} refs/heads/{'x' * 60000}".encode()] * 80, None),
    ],
)
def test_malformed_requests_are_refused(source: io.BytesIO) -> None:
    """Another version, a cut, nonsense or too much of it is a protocol error and nothing else."""
    with pytest.raises(ProtocolError):
        proc_receive.read_request(source, io.BytesIO())


def test_the_answer_keeps_the_order_and_one_line_a_ref() -> None:
    """A reason is cut and made printable, since the client's terminal shows it."""
    sink = io.BytesIO()
    reason = "no\nng refs/heads/x\x1b[31m " + "x" * 1000
    proc_receive.answer(sink, {"refs/heads/b": reason, "refs/heads/a": "", "refs/heads/c": "\n"})
    first, *rest = sink.getvalue().split(b"0013ok refs/heads/a")
    assert first[4:].startswith(b"ng refs/heads/b no ng refs/heads/x [31m xxx")
    assert len(first) < 500
    assert b"\n" not in first
    assert b"\x1b" not in first
    assert rest == [b"001bng refs/heads/c refused0000"]


def server(tmp_path: Path, body: str) -> Path:
    """A bare repository whose proc-receive hook answers with `body`."""
    repository = tmp_path / "app.git"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", repository)
    git(repository, "config", "receive.procReceiveRefs", "refs/heads/main")
    git(repository, "config", "receive.advertisePushOptions", "true")
    script = tmp_path / "hook.py"
    script.write_text(HOOK.format(body=body))
    hook = repository / "hooks" / "proc-receive"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))}\n")
    hook.chmod(0o755)
    return repository


def test_a_push_that_the_hook_accepts(tmp_path: Path) -> None:
    """Git reports what the hook answers, and moves nothing itself; other refs never come to the hook."""
    repository = server(tmp_path, 'proc_receive.answer(sys.stdout.buffer, {"refs/heads/main": ""})')
    commit = work_tree(tmp_path / "work", {"a": b"1"})
    said = git(tmp_path / "work", "push", "-o", "hello there", "-o", "b", repository, "main", "main:refs/heads/other")
    assert "main -> main" in said
    request = Request((RefUpdate(ZERO, commit, "refs/heads/main"),), ("hello there", "b"), False)
    assert (repository / "request").read_text().strip() == str(request)
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/other"


def test_a_push_that_the_hook_refuses(tmp_path: Path) -> None:
    """The reason is what the client sees, on one line, and git push exits with 1."""
    repository = server(
        tmp_path,
        'proc_receive.answer(sys.stdout.buffer, {"refs/heads/main": "operation 42 cancelled by alice;\\nv7 runs"})',
    )
    work_tree(tmp_path / "work", {"a": b"1"})
    said = git(tmp_path / "work", "push", repository, "main", status=1)
    assert "! [remote rejected] main -> main (operation 42 cancelled by alice; v7 runs)" in said


def test_an_atomic_push(tmp_path: Path) -> None:
    """Git tells the hook that it is all or nothing, and one refusal refuses the rest."""
    repository = server(tmp_path, 'proc_receive.answer(sys.stdout.buffer, {"refs/heads/main": "no"})')
    work_tree(tmp_path / "work", {"a": b"1"})
    git(tmp_path / "work", "push", "--atomic", repository, "main", "main:refs/heads/other", status=1)
    assert "atomic=True" in (repository / "request").read_text()
    assert git(repository, "for-each-ref") == ""


@pytest.mark.parametrize("body", ["os._exit(1)", "os._exit(0)", "raise SystemExit(3)"])
def test_a_hook_that_ends_without_an_answer_refuses(tmp_path: Path, body: str) -> None:
    """Fail closed: whatever the exit status, nothing is reported as deployed."""
    repository = server(tmp_path, body)
    work_tree(tmp_path / "work", {"a": b"1"})
    assert "[remote rejected] main -> main" in git(tmp_path / "work", "push", repository, "main", status=1)

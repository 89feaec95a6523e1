"""Everything that reads what strangers write, one target a parser: any bytes give a value or one printable sentence.

A target returns for whatever a parser may say, and raises for whatever it may not. `run.py` searches for such bytes,
`test_replay.py` runs the corpus, and what was found before, in CI.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from safepoint.cli import audit, config
from safepoint.control import protocol
from safepoint.core import audit as core_audit
from safepoint.core import detect, doors, keys, names, procfile, push_options, refs, roles, settings
from safepoint.core.failures import StepError
from safepoint.drivers.checkout import Names
from safepoint.errors import UsageError, UserError
from safepoint.git import objects, pktline, proc_receive
from safepoint.git.commands import complaint
from safepoint.ssh import requests
from safepoint.state import pidfile
from safepoint.state.output import OutputLog

CORPUS = Path(__file__).with_name("corpus")
LONGEST = 1000
"""Characters of a sentence, at most; a few hundred is what they are."""

Target = Callable[[bytes], None]


def text_of(data: bytes) -> str:
    """As words of a command line and names of refs come: bytes that are not UTF-8 as surrogates (PEP 383)."""
    return data.decode(errors="surrogateescape")


def sentence(error: Exception) -> None:
    said = str(error)
    assert said, repr(error)
    assert said.isprintable(), repr(said)
    assert len(said) < LONGEST, len(said)


def command_line(data: bytes) -> None:
    """What an ssh client sends as its command."""
    try:
        request = requests.parse("alice", text_of(data))
    except UserError as error:
        return sentence(error)
    assert request.verb in requests.GIT_VERBS or not request.app
    if request.verb in requests.GIT_VERBS:
        names.app_name(request.app)
    assert "--home" not in request.arguments
    "".join((request.verb, *request.arguments)).encode()
    return None


def packets(data: bytes) -> None:
    """pkt-lines, as far as the first flush."""
    try:
        found = list(pktline.read_until_flush(io.BytesIO(data), 4096))
    except refs.ProtocolError as error:
        return sentence(error)
    again = io.BytesIO()
    for payload in found:
        pktline.write(again, payload + b"\n")
    pktline.write_flush(again)
    assert list(pktline.read_until_flush(io.BytesIO(again.getvalue()), 1 << 20)) == found
    return None


def proc_receive_stdin(data: bytes) -> None:
    """The whole of what git says to proc-receive."""
    try:
        request = proc_receive.read_request(io.BytesIO(data), io.BytesIO())
    except refs.ProtocolError as error:
        return sentence(error)
    answer = io.BytesIO()
    reasons = {each.ref: text_of(data)[:5000] for each in request.commands}
    proc_receive.answer(answer, reasons)
    for line in pktline.read_until_flush(io.BytesIO(answer.getvalue()), 1 << 24):
        assert line.startswith((b"ok ", b"ng "))
        assert b"\n" not in line
    try:
        push_options.parse(request.push_options)
    except UsageError as error:
        sentence(error)
    return None


def pre_receive_stdin(data: bytes) -> None:
    """The updates of refs that pre-receive, and post-receive, are told of."""
    try:
        found = refs.parse_lines(data)
    except refs.ProtocolError as error:
        return sentence(error)
    for update in found:
        assert refs.is_oid(update.old)
        assert refs.is_oid(update.new)
        assert not set(update.ref) & set("\0 \n\r\t\x7f")
    return None


def options(data: bytes) -> None:
    """Push options: a line each, but the first, which is their number."""
    count, *lines = text_of(data).split("\n", 200)
    environment = {"GIT_PUSH_OPTION_COUNT": count} | {f"GIT_PUSH_OPTION_{n}": line for n, line in enumerate(lines)}
    try:
        found = push_options.parse(push_options.from_environment(environment))
    except UsageError as error:
        return sentence(error)
    assert len(found.reason) <= push_options.MAX_REASON
    assert "\n" not in found.reason
    return None


def control_frame(data: bytes) -> None:
    """One request on a worker's control socket."""
    try:
        request = protocol.decode(data)
        found = protocol.cancel_request(request)
    except protocol.BadFrame as error:
        return sentence(error)
    assert (found.by + found.door + found.reason).isprintable()
    assert found.requested is None or math.isfinite(found.requested)
    assert protocol.decode(protocol.encode(request)) == request or "NaN" in data.decode(errors="replace")
    return None


def safepoint_toml(data: bytes) -> None:
    try:
        found = settings.parse(data.decode(errors="surrogatepass"))
    except UnicodeDecodeError:
        return None  # `objects.Tree.text` has refused it before
    except UsageError as error:
        return sentence(error)
    times = (found.build.timeout, found.health.timeout, found.health.interval, found.watch, found.grace)
    assert all(0 <= seconds <= settings.MAX_SECONDS for seconds in times)
    assert settings.Settings.from_json(json.loads(json.dumps(found.to_json()))) == found
    return None


def procfile_(data: bytes) -> None:
    try:
        found = procfile.parse(data.decode(errors="surrogateescape"))
    except UsageError as error:
        return sentence(error)
    assert all(name.isascii() and command and "\0" not in command for name, command in found.items())
    return None


def app_shape(data: bytes) -> None:
    """The three files that say what an app is, split by a line `---`; what is missing is not there."""
    parts = data.decode(errors="replace").split("\n---\n")
    texts: dict[str, str | None] = dict.fromkeys(detect.FILES)
    texts.update(zip((detect.PACKAGE_JSON, procfile.FILE, settings.FILE), parts, strict=False))
    present = {name for name, text in texts.items() if text is not None}
    for more in ({"requirements.txt"}, {"package-lock.json", "index.html"}, set[str]()):
        try:
            found = detect.shape(present | more, texts, "/usr/bin/python3")
        except UsageError as error:
            sentence(error)
            continue
        assert found.processes
        assert procfile.RELEASE not in found.processes


def tree_object(data: bytes) -> None:
    """The root directory of a pushed commit, as git keeps it."""
    try:
        found = objects._entries(data, 20)
    except UsageError as error:
        return sentence(error)
    assert all(len(oid) == 40 for _, oid in found.values())
    return None


def tree_listing(data: bytes) -> None:
    """`git ls-tree -r -t -z` of a pushed commit, in pieces of any size."""
    listing = Names()
    try:
        for at in range(0, len(data), 4096):
            listing.feed(data[at : at + 4096])
    except StepError as error:
        return sentence(error)
    for path in listing._seen:
        assert not {b"", b".", b".."} & set(path.split(b"/"))
        assert b".git" not in path.lower().split(b"/")
    return None


def public_key(data: bytes) -> None:
    try:
        kind, blob = keys.parse_public_key(data.decode(errors="replace"))
    except UsageError as error:
        return sentence(error)
    line = keys.Key("x", kind, blob, 0.0).line
    assert keys.parse_public_key(line) == (kind, blob)
    assert line.isascii()
    assert line.isprintable()
    return None


def names_(data: bytes) -> None:
    text = text_of(data)
    for parse in (names.app_name, names.key_name):
        try:
            assert parse(text) == text
        except UsageError as error:
            sentence(error)
        else:
            assert text.isascii()
            assert text.isprintable()
            assert "/" not in text
    shown = names.shown(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < LONGEST


def since(data: bytes) -> None:
    """`audit --since`."""
    text = text_of(data)
    try:
        assert math.isfinite(audit._time(text))
    except UsageError as error:
        sentence(error)
    seconds = core_audit.duration(text)
    assert seconds is None or 0 <= seconds < 1e12


def glob(data: bytes) -> None:
    """A role's glob, and the name of an app that it is held against."""
    text, _, app = text_of(data).partition("\n")
    try:
        grant = roles.Grant(roles.Role.VIEWER, roles.app_glob(text))
    except UsageError as error:
        return sentence(error)
    app = app[:60]
    assert grant.covers(text.replace("*", "").replace("?", "a"))
    assert isinstance(grant.covers(app), bool)
    assert str(grant).isprintable()
    return None


def setting(data: bytes) -> None:
    """A word of `config:set`. What is said never has the value in it."""
    text = text_of(data)
    try:
        name, value = config._parse(text)
    except UsageError as error:
        said = str(error)
    else:
        said = ""
    _, _, after = text.partition("=")
    assert len(after) < 20 or after not in said
    assert said.isprintable()
    assert len(said) < LONGEST
    if said:
        return
    assert f"{name}={value}" == text
    assert "\0" not in value


def door(data: bytes) -> None:
    """What says where somebody came from: sshd's variable, and our own."""
    text = text_of(data).replace("\0", "")
    for found in (
        doors.Door.of_connection(text[:40], text),
        doors.Door.from_environment({doors.VARIABLE: text, doors.HOME_VARIABLE: "/srv/safepoint"}),
    ):
        command = found.cancel_command(42)
        assert command.isascii()
        assert command.isprintable()
        assert not set(command) & set(";&|<>$`\"'\\*?()")
        assert doors.Door.from_environment(found.to_environment()).origin == found.origin


def pid_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "app.pid"
        path.write_bytes(data)
        found = pidfile.read(path)
    if found is not None:
        identity, operation = found
        assert type(identity.pid) is int
        assert type(identity.started) is int
        assert isinstance(identity.boot, str)
        assert type(operation) is int


def output(data: bytes) -> None:
    """What pushed code prints, as a terminal gets it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "1.log"
        log = OutputLog(path)
        for at in range(0, len(data), 7 if len(data) < 10_000 else 4096):
            log.write(data[at : at + (7 if len(data) < 10_000 else 4096)])
        log.close()
        said = path.read_bytes()
    assert not set(said) & (set(range(32)) - {9, 10} | {127})
    assert not any(0x80 <= ord(each) <= 0x9F for each in said.decode(errors="replace"))


def git_complaint(data: bytes) -> None:
    """What git said about pushed names."""
    said = complaint(data)
    assert said.isprintable()
    assert len(said) < LONGEST


TARGETS: dict[str, Target] = {
    "command_line": command_line,
    "packets": packets,
    "proc_receive": proc_receive_stdin,
    "pre_receive": pre_receive_stdin,
    "push_options": options,
    "control_frame": control_frame,
    "safepoint_toml": safepoint_toml,
    "procfile": procfile_,
    "app_shape": app_shape,
    "tree_object": tree_object,
    "tree_listing": tree_listing,
    "public_key": public_key,
    "names": names_,
    "since": since,
    "glob": glob,
    "setting": setting,
    "door": door,
    "pid_file": pid_file,
    "output": output,
    "git_complaint": git_complaint,
}

"""What an app says about its own deploys in `safepoint.toml`: parsed once, into frozen records.

The text is pushed by strangers: everything in it is checked here, and an error names the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safepoint.errors import UsageError
from safepoint.hints import Any, Self
from safepoint.record import Record, asdict

FILE = "safepoint.toml"
MAX_BYTES = 16 * 1024
"""tomllib's time for one long dotted key is quadratic: 16 KiB take a second, 64 KiB a quarter of a minute."""
MAX_SECONDS = 24 * 3600.0
MAX_COMMANDS = 50


class Build(Record):
    command: str = ""
    """A shell command; empty: by what is found in the tree."""
    timeout: float = 1800.0


class BeforeRelease(Record):
    command: str
    undo: str = ""
    timeout: float = 1800.0
    on_cancel: str = "interrupt"


class Health(Record):
    path: str = "/"
    expect: str = "any"
    interval: float = 1.0
    timeout: float = 180.0


class Settings(Record):
    """All times in seconds."""

    build: Build = Build()
    before_release: tuple[BeforeRelease, ...] = ()
    health: Health = Health()
    watch: float = 5.0
    grace: float = 10.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            build=Build(**data["build"]),
            before_release=tuple(BeforeRelease(**each) for each in data["before_release"]),
            health=Health(**data["health"]),
            watch=data["watch"],
            grace=data["grace"],
        )


def parse(text: str) -> Settings:
    """Raises UsageError: one sentence with the line where that is known."""
    import tomllib  # only an app that has the file pays for the import

    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise UsageError(f"{FILE} is larger than {MAX_BYTES // 1024} KiB")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{FILE} is not valid TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{FILE} is nested too deeply") from None
    except ValueError:  # int() refuses more than 4300 digits, and tomllib lets that through
        raise UsageError(f"{FILE} has a number that is too long") from None
    return _Reader(text).settings(document)


_DEFAULT = Settings()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    def settings(self, document: dict[str, Any]) -> Settings:
        self._known("", document, ("build", "before_release", "health", "watch", "stop"))
        build, health, watch, stop = (self._table(document, t) for t in ("build", "health", "watch", "stop"))
        self._known("build", build, ("command", "timeout"))
        self._known("health", health, ("path", "expect", "interval", "timeout"))
        self._known("watch", watch, ("for",))
        self._known("stop", stop, ("grace",))
        return Settings(
            build=Build(
                self._command("build", build, "command"),
                self._seconds("build", build, "timeout", _DEFAULT.build.timeout),
            ),
            before_release=self._before_release(document.get("before_release", [])),
            health=Health(
                self._path(health),
                self._one_of("health", health, "expect", ("any", "2xx")),
                self._seconds("health", health, "interval", _DEFAULT.health.interval, least=0.05),
                self._seconds("health", health, "timeout", _DEFAULT.health.timeout),
            ),
            watch=self._seconds("watch", watch, "for", _DEFAULT.watch, least=0.0),
            grace=self._seconds("stop", stop, "grace", _DEFAULT.grace, least=0.0),
        )

    def _before_release(self, tables: Any) -> tuple[BeforeRelease, ...]:
        where = "before_release"
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self._error("", where, "has to be a list of tables, each begun by [[before_release]]")
        if len(tables) > MAX_COMMANDS:
            raise self._error("", where, f"has {len(tables)} commands; the most is {MAX_COMMANDS}")
        found = []
        for index, table in enumerate(tables):
            self._known(where, table, ("command", "undo", "timeout", "on_cancel"), index)
            command = self._command(where, table, "command", index)
            if not command:
                raise self._error("", where, f"number {index + 1} has no command", index)
            found.append(
                BeforeRelease(
                    command,
                    self._command(where, table, "undo", index),
                    self._seconds(where, table, "timeout", 1800.0, index=index),
                    self._one_of(where, table, "on_cancel", ("interrupt", "finish"), index),
                )
            )
        return tuple(found)

    def _table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        value = document.get(name, {})
        if not isinstance(value, dict):
            raise self._error("", name, f"has to be a table, begun by [{name}]")
        return value

    def _known(self, table: str, found: dict[str, Any], known: tuple[str, ...], index: int = 0) -> None:
        for key in found:
            if key not in known:
                place = f"[{table}]" if table else "the file"
                raise self._error(table, key, f"is not a key of {place}; it has {', '.join(known)}", index)

    def _command(self, table: str, found: dict[str, Any], key: str, index: int = 0) -> str:
        value = found.get(key, "")
        if not isinstance(value, str) or "\0" in value:
            raise self._error(table, key, "has to be text: a shell command", index)
        return value.strip()

    def _path(self, found: dict[str, Any]) -> str:
        value = found.get("path", _DEFAULT.health.path)
        if not isinstance(value, str) or not re.fullmatch(r"/[!-~]*", value):
            raise self._error("health", "path", "has to be a URL path that begins with / and has no spaces")
        return value

    def _one_of(self, table: str, found: dict[str, Any], key: str, choices: tuple[str, ...], index: int = 0) -> str:
        value = found.get(key, choices[0])
        if value not in choices:
            raise self._error(table, key, "has to be " + " or ".join(f'"{choice}"' for choice in choices), index)
        return str(value)

    def _seconds(
        self,
        table: str,
        found: dict[str, Any],
        key: str,
        default: float,
        *,
        least: float = 0.001,
        index: int = 0,
    ) -> float:
        if key not in found:
            return default
        seconds = duration(found[key])
        if seconds is None or not least <= seconds <= MAX_SECONDS:
            raise self._error(table, key, 'has to be a time such as "500ms", "10s", "3m" or "1h"', index)
        return seconds

    def _error(self, table: str, key: str, problem: str, index: int = 0) -> UsageError:
        # A key is pushed text: it is shown escaped and cut.
        shown = key if re.fullmatch(r"[\w.-]{1,60}", key) else ascii(key[:60])
        line = _line_of(self._text, table, key, index)
        place = f"{FILE} line {line}" if line else FILE
        return UsageError(f"{place}: {shown} {problem}")


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(value: object) -> float | None:
    """Seconds of a text such as "90s" or "1.5h"; None where it is not one."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", value, re.ASCII) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else None


_MULTILINE = re.compile(r"""(\"{3}|'{3}).*?\1""", re.DOTALL)


def _line_of(text: str, table: str, key: str, index: int) -> int | None:
    """The line, from 1, that sets `key` in the `index`-th table named `table`. tomllib does not say.

    The text is hostile: no pattern here may backtrack over more than one run of characters.
    """
    setting = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    inline = re.compile(rf"\s*{re.escape(table)}\s*[=.].*\b{re.escape(key)}\b")
    at, seen = "", -1
    # A script in a multi-line string may look like settings.
    blanked = _MULTILINE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(blanked.split("\n"), 1):
        if line.lstrip().startswith("["):
            at = line.lstrip().lstrip("[").partition("]")[0].strip("\"' \t")
            seen += at == (table or key)
            here = at == f"{table}.{key}" if table else at == key or at.startswith(f"{key}.")
            if here and max(seen, 0) == index:
                return number
        elif table:
            if (at == table and seen == index and setting.match(line)) or (not at and inline.match(line)):
                return number
        elif not at and setting.match(line):
            return number
    return None

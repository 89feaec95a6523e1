"""The environment of pushed code: made from nothing, so that the server's own never leaks into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safepoint.record import Record

_HOST = (
    "PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_PACKAGES = ("PIP_", "UV_", "NPM_CONFIG_", "npm_config_")


def host_facts(environment: Mapping[str, str]) -> dict[str, str]:
    """What pushed code may know of this machine: how it reaches the network, speaks, and gets its packages.

    Taken from the environment of `serve` and kept, so that a release gets the same whichever door its push came by.
    """
    return {k: v for k, v in environment.items() if k in _HOST or k.startswith(_PACKAGES)}


class Identity(Record):
    """What pushed code is told about itself."""

    app: str
    release: int
    commit: str
    directory: Path
    data: Path

    def variables(self) -> dict[str, str]:
        return {
            "SAFEPOINT_APP": self.app,
            "SAFEPOINT_RELEASE": f"v{self.release}",
            "SAFEPOINT_COMMIT": self.commit,
        }


def for_processes(identity: Identity, host: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """For what the release runs. The app's configuration wins over all but what Safepoint itself tells it."""
    machine = {name: value for name, value in host.items() if not name.startswith(_PACKAGES)}
    return machine | _own(identity, host) | dict(config) | identity.variables()


def for_commands(
    identity: Identity, host: Mapping[str, str], config: Mapping[str, str], *, cache: Path, scratch: Path
) -> dict[str, str]:
    """For builds and before_release commands: the same, with the app's cache and a scratch directory."""
    caches = {
        "CACHE_DIR": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "npm_config_cache": str(cache / "npm"),
        "TMPDIR": str(scratch),
    }
    return {**host} | _own(identity, host) | caches | dict(config) | identity.variables()


def _own(identity: Identity, host: Mapping[str, str]) -> dict[str, str]:
    system = host.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    directory = identity.directory
    return {
        "PATH": f"{directory}/.venv/bin:{directory}/node_modules/.bin:{system}",
        "HOME": str(directory),
        "DATA_DIR": str(identity.data),
        "PYTHONUNBUFFERED": "1",  # what a process says is seen when it says it
    }

"""The choice of a containment, and the names of scopes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from safepoint.errors import UserError
from safepoint.processes import containment
from safepoint.processes.spec import path_of, write_spec
from safepoint.state.paths import Home


def test_best_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wish it is the strongest that works."""
    monkeypatch.delenv(containment.FORCED, raising=False)
    working = [kind for kind in containment.Kind if containment.possible(kind, tmp_path)]
    assert containment.best(tmp_path) == working[0]
    assert containment.Kind.SUBREAPER in working


def test_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's wish wins."""
    monkeypatch.setenv(containment.FORCED, "subreaper")
    assert containment.best(tmp_path) is containment.Kind.SUBREAPER


def test_forced_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that does not exist is named, with those that do."""
    monkeypatch.setenv(containment.FORCED, "docker")
    with pytest.raises(UserError, match=r"SAFEPOINT_CONTAINMENT=docker is not a kind.*cgroup, pidns, subreaper"):
        containment.best(tmp_path)


def test_forced_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that does not work here is refused, not weakened in silence."""
    monkeypatch.setenv(containment.FORCED, "cgroup")
    monkeypatch.setattr(containment, "cgroup_bases", lambda: [tmp_path])
    with pytest.raises(UserError, match="cannot contain processes by cgroup on this machine"):
        containment.best(tmp_path / "home")


def test_no_cgroup_is_left_by_the_trial(tmp_path: Path) -> None:
    """Looking whether cgroups work leaves none."""
    containment.possible(containment.Kind.CGROUP, tmp_path)
    tag = containment.name(tmp_path, "probe").partition("/")[0]
    assert [path for base in containment.cgroup_bases() for path in base.glob(f"{tag}*")] == []


def test_names_differ_by_home(tmp_path: Path) -> None:
    """Two homes on one machine do not share a scope; another path to the same home does."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert containment.name(tmp_path / "a", "1.build") != containment.name(tmp_path / "b", "1.build")
    assert containment.name(tmp_path / "a", "1.build") == containment.name(tmp_path / "link", "1.build")


@pytest.mark.parametrize("scope", ["", ".", "..", "a/b", "../x", ".hidden", "a\n", "a b", "-rf", "x" * 201])
def test_bad_scope(tmp_path: Path, scope: str) -> None:
    """A scope is one name, and cannot lead elsewhere."""
    with pytest.raises(ValueError, match="not a scope"):
        containment.name(tmp_path, scope)


def test_spec(tmp_path: Path) -> None:
    """The spec is secret; the argv that starts the command is not, and shows nothing of the environment."""
    path = path_of(Home(tmp_path), "1.build")
    path.parent.parent.mkdir()
    argv = write_spec(
        path, scope="1.build", home=tmp_path, argv=["a", "b"], directory=tmp_path, environment={"TOKEN": "hunter2"}
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["1.build.json"]
    spec = json.loads(path.read_bytes())
    assert spec["argv"] == ["a", "b"]
    assert spec["environment"] == {"TOKEN": "hunter2", "SAFEPOINT_SCOPE": containment.name(tmp_path, "1.build")}
    assert "hunter2" not in " ".join(argv)
    assert str(path) in argv

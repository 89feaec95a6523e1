"""What fuzzing starts from, and what it has found: every parser bears it, and megabytes of the like."""

from __future__ import annotations

import tracemalloc

import pytest
from fuzz.targets import CORPUS, TARGETS
from hypothesis import given
from hypothesis import strategies as st

SEEDS = {name: tuple(path.read_bytes() for path in sorted((CORPUS / name).iterdir())) for name in TARGETS}
MEGABYTE = 1 << 20
PIECES = (
    b"a",
    b"\n",
    b" ",
    b"\0",
    b"[",
    b"{",
    b'"',
    b"'",
    b"\\",
    b"=",
    b"/",
    b":",
    b"0",
    b"a.",
    b"*a",
    b"\xc2",
    b"\xff",
)


def test_every_target_has_a_corpus() -> None:
    """And every corpus a target."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(SEEDS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """Each file of it is a value, or one printable sentence."""
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    """No other exception, whatever they are: at random, and made up of what the corpus has."""
    seed = data.draw(st.sampled_from(SEEDS[name]))
    at = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(at, len(seed)))
    TARGETS[name](seed[:at] + data.draw(st.binary(max_size=40)) + seed[end:] * data.draw(st.integers(0, 3)))


@pytest.mark.timeout(100)  # what is quadratic takes hours
@pytest.mark.parametrize("name", TARGETS)
def test_a_megabyte(name: str) -> None:
    """Of one thing over and over, alone and after a good beginning: read, or refused, without hanging."""
    for piece in (*PIECES, *SEEDS[name]):
        many = piece * (MEGABYTE // len(piece)) if piece else b""
        for start in (b"", SEEDS[name][0]):
            TARGETS[name](start + many)


@pytest.mark.parametrize("name", TARGETS)
def test_a_megabyte_takes_some_megabytes(name: str) -> None:
    """Of memory: nothing in it unfolds."""
    for piece in SEEDS[name]:
        many = piece * (MEGABYTE // len(piece)) if piece else b""
        tracemalloc.start()
        try:
            TARGETS[name](many)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 64 * MEGABYTE, (piece, peak)

"""What the plugin changes in supervisord, on the parts of supervisord that it changes."""

from __future__ import annotations

import os
from types import SimpleNamespace

from supervisor.poller import PollPoller

from safepoint.drivers.supervisord_plugin import _forget_errors


def test_an_error_without_an_end_is_looked_at_once() -> None:
    """The writing end of a pipe that nobody reads, left from an older descriptor of that number, stops no poll."""
    poller = PollPoller(SimpleNamespace(logger=None))
    read, write = os.pipe()
    other_read, other_write = os.pipe()
    poller.register_readable(write)
    poller.register_readable(other_read)
    os.close(read)
    assert poller.poll(60) == ([], [])  # for ever, by itself: it returns at once, again and again
    _forget_errors(poller)
    assert poller.poll(60) == ([], [])
    os.write(other_write, b".")
    assert poller.poll(60) == ([other_read], [])
    assert [fd for fd, _ in poller._poller.poll(0)] == [other_read]
    for fd in (write, other_read, other_write):
        os.close(fd)

"""Who somebody is: the name of the key they came with, or the Unix user at the server itself."""

from __future__ import annotations

import os
import pwd

from safepoint.core.doors import KEY_VARIABLE


def who() -> str:
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return key
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

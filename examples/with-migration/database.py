"""Where the data is: outside of the release, which is a directory of its own for each version and goes away with it."""

import os
import sqlite3
import sys

PATH = os.environ.get("DATABASE", "")


def is_outside() -> bool:
    return PATH.startswith("/")


def connect() -> sqlite3.Connection:
    if not is_outside():
        app = os.environ.get("SAFEPOINT_APP", "APP")
        sys.exit(
            "DATABASE has to be the absolute path of a file outside of the release, for instance:"
            f" safepoint config:set {app} DATABASE={os.environ.get('DATA_DIR', '/var/lib')}/{app}.db"
        )
    # isolation_level: this code says where its transactions begin and end. timeout: seconds to wait for another writer.
    connection = sqlite3.connect(PATH, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection

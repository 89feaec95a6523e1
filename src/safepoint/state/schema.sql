-- The journal and what it is about. `events` is the truth of an operation; `ending` repeats its last event,
-- in the same transaction, so that open operations and listings need no replay of all that ever ran.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE apps (
    name TEXT PRIMARY KEY,
    branch TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    blob BLOB NOT NULL UNIQUE,
    added REAL NOT NULL
) STRICT;
CREATE TABLE config (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (app, name)
) STRICT;
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    by TEXT NOT NULL,
    door TEXT NOT NULL,
    reason TEXT NOT NULL,
    opened REAL NOT NULL,
    plan TEXT NOT NULL,
    environment TEXT NOT NULL, -- the config as it was then; apart from the plan because it is secret
    ending TEXT
) STRICT;
CREATE INDEX operations_of_app ON operations (app, id);
CREATE UNIQUE INDEX one_unfinished ON operations (app) WHERE ending IS NULL OR ending = 'stuck';
CREATE TABLE events (
    operation INTEGER NOT NULL REFERENCES operations (id),
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (operation, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE releases (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    operation INTEGER NOT NULL,
    created REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'kept', 'pruned')),
    settings TEXT NOT NULL,
    processes TEXT NOT NULL,
    ports TEXT NOT NULL,
    environment TEXT NOT NULL,
    PRIMARY KEY (app, number)
) STRICT;
CREATE UNIQUE INDEX one_current ON releases (app) WHERE state = 'current';

-- The journal and what it is about. `events` is the truth of an operation; `ending` repeats its last event,
-- in the same transaction, so that open operations and listings need no replay of all that ever ran.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE apps (
    name TEXT PRIMARY KEY,
    branch TEXT NOT NULL,
    created REAL NOT NULL,
    on_busy TEXT NOT NULL DEFAULT 'queue' CHECK (on_busy IN ('queue', 'supersede', 'reject'))
) STRICT;
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    blob BLOB NOT NULL UNIQUE,
    added REAL NOT NULL
) STRICT;
CREATE TABLE grants (
    key TEXT NOT NULL REFERENCES keys (name) ON DELETE CASCADE,
    apps TEXT NOT NULL, -- a glob
    role TEXT NOT NULL CHECK (role IN ('viewer', 'deployer', 'operator', 'admin')),
    PRIMARY KEY (key, apps)
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
    queued INTEGER NOT NULL, -- it was opened while the app was busy; `begun` and `ended` in its events go on from there
    waiting INTEGER NOT NULL, -- it still waits for its turn
    ending TEXT
) STRICT;
CREATE INDEX operations_of_app ON operations (app, id);
CREATE INDEX operations_by_time ON operations (opened);
CREATE INDEX operations_open ON operations (id) WHERE ending IS NULL;
-- A push finds its operation by the process that received it. The tick in which that began is as good as unique.
CREATE INDEX operations_of_receiver ON operations (app, json_extract(plan, '$.receiver.started'));
CREATE UNIQUE INDEX one_running ON operations (app) WHERE (ending IS NULL AND waiting = 0) OR ending = 'stuck';
CREATE UNIQUE INDEX one_waiting ON operations (app) WHERE ending IS NULL AND waiting = 1;
CREATE TABLE events (
    operation INTEGER NOT NULL REFERENCES operations (id),
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (operation, number)
) STRICT, WITHOUT ROWID;
-- Of those that `core.audit` has an entry for: two or three of an operation's events, so that the others cost nothing more.
CREATE INDEX events_for_audit ON events (json_extract(event, '$.at')) WHERE json_extract(event, '$.type') IN ('begun', 'refused', 'superseded', 'cancel requested', 'recovery requested', 'ended');
-- What is no operation: apps, keys, grants, configuration, and requests that were denied.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    by TEXT NOT NULL,
    door TEXT NOT NULL,
    app TEXT NOT NULL, -- an empty text: the server as a whole
    what TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_of_app ON audit (app, id);
-- History is appended to and never changed, whatever a defect may try. Each trigger is one line: see `Store._migrate`.
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER events_are_fixed BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER operations_are_kept BEFORE DELETE ON operations BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER operations_are_fixed BEFORE UPDATE OF id, app, by, door, reason, opened, plan, queued ON operations BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
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
CREATE INDEX releases_there ON releases (app, number) WHERE state IN ('current', 'kept');

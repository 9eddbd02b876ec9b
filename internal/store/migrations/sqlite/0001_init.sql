-- Times are microseconds since 1970 in UTC; documents are JSON text. The columns
-- beside a document repeat what lists filter and sort by.

CREATE TABLE projects (
    name    TEXT    NOT NULL PRIMARY KEY,
    owner   TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    labels  TEXT    NOT NULL,
    created INTEGER NOT NULL,
    doc     TEXT    NOT NULL
) WITHOUT ROWID;

CREATE TABLE functions (
    id        INTEGER NOT NULL PRIMARY KEY,
    project   TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    uid       TEXT    NOT NULL,
    versioned INTEGER NOT NULL CHECK (versioned IN (0, 1)),
    kind      TEXT    NOT NULL,
    state     TEXT    NOT NULL,
    labels    TEXT    NOT NULL,
    updated   INTEGER NOT NULL,
    doc       TEXT    NOT NULL,
    UNIQUE (project, name, uid)
);

CREATE TABLE function_tags (
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    tag         TEXT    NOT NULL,
    function_id INTEGER NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    PRIMARY KEY (project, name, tag)
) WITHOUT ROWID;
CREATE INDEX function_tags_of ON function_tags (function_id);

CREATE TABLE runs (
    id         INTEGER NOT NULL PRIMARY KEY,
    project    TEXT    NOT NULL,
    uid        TEXT    NOT NULL,
    iter       INTEGER NOT NULL CHECK (iter >= 0),
    name       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    start_time INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    end_time   INTEGER,
    labels     TEXT    NOT NULL,
    doc        TEXT    NOT NULL,
    UNIQUE (project, uid, iter)
);
-- The first page of a list, for each thing that lists are usually about. Runs and
-- their children are apart, so that a run with 100,000 children hides nothing; the
-- condition that is always true keeps the index with children for lists that say
-- that they want them.
CREATE INDEX runs_start         ON runs (project, start_time)        WHERE iter = 0;
CREATE INDEX runs_start_all     ON runs (project, start_time)        WHERE iter >= 0;
CREATE INDEX runs_start_global  ON runs (start_time)                 WHERE iter = 0;
CREATE INDEX runs_state         ON runs (project, state, start_time) WHERE iter = 0;
CREATE INDEX runs_name          ON runs (project, name, start_time)  WHERE iter = 0;
CREATE INDEX runs_name_updated  ON runs (project, name, updated, start_time) WHERE iter = 0;

-- One row a label, in the order in which a list by label shows runs. The row of a
-- run is found again from the run's own columns, so no second index is needed.
CREATE TABLE run_labels (
    project    TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    child      INTEGER NOT NULL CHECK (child IN (0, 1)),
    start_time INTEGER NOT NULL,
    run_id     INTEGER NOT NULL,
    PRIMARY KEY (project, key, value, child, start_time, run_id)
) WITHOUT ROWID;

CREATE TABLE artifacts (
    id           INTEGER NOT NULL PRIMARY KEY,
    project      TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    uid          TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    tree         TEXT    NOT NULL,
    iter         INTEGER NOT NULL CHECK (iter >= 0),
    best         INTEGER NOT NULL CHECK (best IN (0, 1)),
    producer_uri TEXT    NOT NULL,
    labels       TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    doc          TEXT    NOT NULL,
    UNIQUE (project, key, uid)
);
CREATE INDEX artifacts_tree    ON artifacts (project, tree, iter);
CREATE INDEX artifacts_updated ON artifacts (project, updated);

CREATE TABLE artifact_tags (
    project     TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    tag         TEXT    NOT NULL,
    artifact_id INTEGER NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    PRIMARY KEY (project, key, tag, artifact_id)
) WITHOUT ROWID;
CREATE INDEX artifact_tags_of   ON artifact_tags (artifact_id);
CREATE INDEX artifact_tags_name ON artifact_tags (project, tag);

-- project is '' for tasks that belong to no project.
CREATE TABLE tasks (
    project TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    state   TEXT    NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    expires INTEGER,
    doc     TEXT    NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
CREATE INDEX tasks_created ON tasks (project, created);

CREATE TABLE executions (
    id         TEXT    NOT NULL PRIMARY KEY,
    project    TEXT    NOT NULL,
    uid        TEXT    NOT NULL,
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    phase      TEXT    NOT NULL CHECK (phase IN ('queued', 'preparing', 'starting', 'running', 'finished')),
    abort      INTEGER NOT NULL CHECK (abort IN (0, 1)),
    abort_text TEXT    NOT NULL,
    backend    TEXT    NOT NULL,
    journal    INTEGER NOT NULL,
    not_before INTEGER,
    created    INTEGER NOT NULL,
    started    INTEGER,
    finished   INTEGER,
    updated    INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    plan       TEXT    NOT NULL,
    UNIQUE (project, uid, attempt)
);
CREATE INDEX executions_active ON executions (created) WHERE phase <> 'finished';

-- Times are microseconds since 1970 in UTC; documents are JSON text. The columns
-- beside a document repeat what lists filter and sort by.
-- Text that is compared is in byte order (COLLATE "C"), as in SQLite.

CREATE TABLE projects (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner   TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL,
    labels  TEXT NOT NULL,
    created BIGINT  NOT NULL,
    doc     TEXT NOT NULL
);

CREATE TABLE functions (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project   TEXT COLLATE "C" NOT NULL,
    name      TEXT COLLATE "C" NOT NULL,
    uid       TEXT COLLATE "C" NOT NULL,
    versioned BIGINT  NOT NULL CHECK (versioned IN (0, 1)),
    kind      TEXT COLLATE "C" NOT NULL,
    state     TEXT COLLATE "C" NOT NULL,
    labels    TEXT NOT NULL,
    updated   BIGINT  NOT NULL,
    doc       TEXT NOT NULL,
    UNIQUE (project, name, uid)
);

CREATE TABLE function_tags (
    project     TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    tag         TEXT COLLATE "C" NOT NULL,
    function_id BIGINT  NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    PRIMARY KEY (project, name, tag)
);
CREATE INDEX function_tags_of ON function_tags (function_id);

CREATE TABLE runs (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    iter       BIGINT  NOT NULL CHECK (iter >= 0),
    name       TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    start_time BIGINT  NOT NULL,
    updated    BIGINT  NOT NULL,
    end_time   BIGINT ,
    labels     TEXT NOT NULL,
    doc        TEXT NOT NULL,
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
    project    TEXT COLLATE "C" NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    value      TEXT COLLATE "C" NOT NULL,
    child      BIGINT  NOT NULL CHECK (child IN (0, 1)),
    start_time BIGINT  NOT NULL,
    run_id     BIGINT  NOT NULL,
    PRIMARY KEY (project, key, value, child, start_time, run_id)
);

CREATE TABLE artifacts (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project      TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    uid          TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    tree         TEXT COLLATE "C" NOT NULL,
    iter         BIGINT  NOT NULL CHECK (iter >= 0),
    best         BIGINT  NOT NULL CHECK (best IN (0, 1)),
    producer_uri TEXT COLLATE "C" NOT NULL,
    labels       TEXT NOT NULL,
    created      BIGINT  NOT NULL,
    updated      BIGINT  NOT NULL,
    doc          TEXT NOT NULL,
    UNIQUE (project, key, uid)
);
CREATE INDEX artifacts_tree    ON artifacts (project, tree, iter);
CREATE INDEX artifacts_updated ON artifacts (project, updated);

CREATE TABLE artifact_tags (
    project     TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    tag         TEXT COLLATE "C" NOT NULL,
    artifact_id BIGINT  NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    PRIMARY KEY (project, key, tag, artifact_id)
);
CREATE INDEX artifact_tags_of   ON artifact_tags (artifact_id);
CREATE INDEX artifact_tags_name ON artifact_tags (project, tag);

-- project is '' for tasks that belong to no project.
CREATE TABLE tasks (
    project TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    created BIGINT  NOT NULL,
    updated BIGINT  NOT NULL,
    expires BIGINT ,
    doc     TEXT NOT NULL,
    PRIMARY KEY (project, name)
);
CREATE INDEX tasks_created ON tasks (project, created);

CREATE TABLE executions (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    attempt    BIGINT  NOT NULL CHECK (attempt >= 1),
    phase      TEXT COLLATE "C" NOT NULL CHECK (phase IN ('queued', 'preparing', 'starting', 'running', 'finished')),
    abort      BIGINT  NOT NULL CHECK (abort IN (0, 1)),
    abort_text TEXT NOT NULL,
    backend    TEXT COLLATE "C" NOT NULL,
    journal    BIGINT  NOT NULL,
    not_before BIGINT ,
    created    BIGINT  NOT NULL,
    started    BIGINT ,
    finished   BIGINT ,
    updated    BIGINT  NOT NULL,
    outcome    TEXT NOT NULL,
    plan       TEXT NOT NULL,
    UNIQUE (project, uid, attempt)
);
CREATE INDEX executions_active ON executions (created) WHERE phase <> 'finished';

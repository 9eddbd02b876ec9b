-- What a run was made from, and what is known of the content it made: one row
-- for each thing. The other edges of the lineage graph are columns elsewhere: an
-- artifact names its producer, an iteration has the uid of its run.
CREATE TABLE run_uses (
    run_id INTEGER NOT NULL,
    role   TEXT    NOT NULL CHECK (role IN ('function', 'input', 'content', 'rerun', 'cache', 'output')),
    name   TEXT    NOT NULL,
    wanted TEXT    NOT NULL,
    used   TEXT    NOT NULL,
    PRIMARY KEY (run_id, role, name)
) WITHOUT ROWID;
CREATE INDEX run_uses_used ON run_uses (used, run_id);

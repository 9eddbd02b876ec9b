-- Bundles of code, for all servers on a database that is shared, in parts. used is when one
-- was last asked for, in microseconds; whole is 1 once all parts are there.
CREATE TABLE bundles (
    name  TEXT    NOT NULL PRIMARY KEY,
    used  INTEGER NOT NULL,
    whole INTEGER NOT NULL CHECK (whole IN (0, 1))
);
CREATE TABLE bundle_parts (
    name   TEXT    NOT NULL REFERENCES bundles (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    data   BLOB    NOT NULL,
    PRIMARY KEY (name, number)
);

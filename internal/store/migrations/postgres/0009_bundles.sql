-- Bundles of code, for all servers on the database, in parts. used is when one was last
-- asked for, in microseconds; whole is 1 once all parts are there.
CREATE TABLE bundles (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    used  BIGINT NOT NULL,
    whole SMALLINT NOT NULL CHECK (whole IN (0, 1))
);
CREATE TABLE bundle_parts (
    name   TEXT COLLATE "C" NOT NULL REFERENCES bundles (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    data   BYTEA NOT NULL,
    PRIMARY KEY (name, number)
);

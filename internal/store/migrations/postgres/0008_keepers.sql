-- Servers on one database and until when they may be taken for alive, in microseconds of
-- the database's clock. A deployment is kept by one of them.
CREATE TABLE servers (
    id    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    url   TEXT NOT NULL,
    until BIGINT NOT NULL
);
ALTER TABLE deployments ADD COLUMN keeper TEXT NOT NULL DEFAULT '';

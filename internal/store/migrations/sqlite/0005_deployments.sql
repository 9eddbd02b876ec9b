-- What should serve: one row for each deployed function, and one for each of its
-- revisions, which are never changed except in how far they are. routes is a JSON
-- list of {revision, weight, shadow}; stable is the last one that served.
CREATE TABLE deployments (
    project  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    function TEXT    NOT NULL,
    tag      TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    removed  INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    routes   TEXT NOT NULL,
    stable   TEXT NOT NULL,
    port     INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    message  TEXT NOT NULL,
    status   TEXT NOT NULL,
    created  INTEGER NOT NULL,
    updated  INTEGER NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE deployment_revisions (
    project TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    hash    TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    message TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (project, name, number)
);

CREATE TABLE api_gateways (
    project TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    port    INTEGER NOT NULL,
    secret  TEXT NOT NULL,
    doc     TEXT NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (project, name)
);

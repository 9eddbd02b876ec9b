-- What should serve: one row for each deployed function, and one for each of its
-- revisions, which are never changed except in how far they are. routes is a JSON
-- list of {revision, weight, shadow}; stable is the last one that served.
CREATE TABLE deployments (
    project  TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    function TEXT COLLATE "C" NOT NULL,
    tag      TEXT COLLATE "C" NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL,
    removed  BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    routes   TEXT NOT NULL,
    stable   TEXT NOT NULL,
    port     BIGINT NOT NULL,
    state    TEXT COLLATE "C" NOT NULL,
    message  TEXT NOT NULL,
    status   TEXT NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE deployment_revisions (
    project TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    number  BIGINT NOT NULL,
    hash    TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL,
    message TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (project, name, number)
);

CREATE TABLE api_gateways (
    project TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    port    BIGINT NOT NULL,
    secret  TEXT NOT NULL,
    doc     TEXT NOT NULL,
    updated BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

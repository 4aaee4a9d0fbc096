-- Who tells us of what happens elsewhere. Secrets are sealed with the server's key.
CREATE TABLE incoming_sources (
    id TEXT PRIMARY KEY NOT NULL,
    -- As it stands in the address: lower case.
    name TEXT NOT NULL UNIQUE,
    secret TEXT NOT NULL,
    hint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);

-- Messages that came while they were recent enough to come again.
CREATE TABLE incoming_seen (
    source_id TEXT NOT NULL REFERENCES incoming_sources (id) ON DELETE CASCADE,
    message TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (source_id, message)
);
CREATE INDEX incoming_seen_by_age ON incoming_seen (at);

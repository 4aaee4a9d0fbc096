-- Trunks, numbers, routes and devices that people add to those of the configuration files.
CREATE TABLE settings (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON, sealed by the server's key: it may hold passwords.
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (kind, name)
);

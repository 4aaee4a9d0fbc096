-- Who is told by HTTP of what happens. Secrets are sealed with the server's key.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    -- Names of events with a space between them, or `*`.
    events TEXT NOT NULL,
    enabled BIGINT NOT NULL DEFAULT 1,
    -- Why the server switched it off.
    disabled_why TEXT,
    secret TEXT NOT NULL,
    hint TEXT NOT NULL,
    -- The secret before, which signs too until then.
    old_secret TEXT,
    old_hint TEXT,
    old_until BIGINT,
    -- Failures since the last success, and since when; nothing is sent before `not_before`.
    failures BIGINT NOT NULL DEFAULT 0,
    failing_since BIGINT,
    not_before BIGINT NOT NULL DEFAULT 0,
    -- The server that sends, where several share the database.
    lease_node TEXT NOT NULL DEFAULT '',
    lease_until BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);

-- The outbox: what happened, as it is sent.
CREATE TABLE outbox (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    call TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX outbox_by_age ON outbox (at);

-- To whom it goes, and how far that has come: `pending`, `delivered`, `dead`. Ids sort by time: the order within a call.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    call TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_at BIGINT NOT NULL,
    last_at BIGINT,
    last_status BIGINT,
    last_error TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (webhook_id, next_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_of_call ON deliveries (webhook_id, call, id) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_by_state ON deliveries (webhook_id, state, id);
CREATE INDEX deliveries_by_kind ON deliveries (webhook_id, kind, id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_age ON deliveries (created_at);

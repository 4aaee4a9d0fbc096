-- Who says that they take no calls now; whoever has no row takes them.
CREATE TABLE presence (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    away BIGINT NOT NULL,
    since BIGINT NOT NULL
);

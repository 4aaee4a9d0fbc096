-- Lists of a million calls: each kind of call (which way, what answered, how it ended) has a number, so that any filter is a few walks in
-- order; and the index of words knows what lists filter by and when, so that a search reads what it shows.
CREATE TABLE call_kinds (
    id BIGINT PRIMARY KEY NOT NULL,
    direction TEXT NOT NULL,
    target TEXT NOT NULL,
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (direction, target, class, reason)
);
INSERT INTO call_kinds (id, direction, target, class, reason)
    SELECT ROW_NUMBER() OVER (ORDER BY direction, target, class, reason), direction, target, class, reason
    FROM (SELECT DISTINCT direction, target, class, reason FROM call_records) AS kinds;

ALTER TABLE call_records ADD COLUMN kind BIGINT NOT NULL DEFAULT 0;
UPDATE call_records SET kind = (SELECT k.id FROM call_kinds k WHERE k.direction = call_records.direction
    AND k.target = call_records.target AND k.class = call_records.class AND k.reason = call_records.reason);
ALTER TABLE call_owners ADD COLUMN kind BIGINT NOT NULL DEFAULT 0;
UPDATE call_owners SET kind = (SELECT r.kind FROM call_records r WHERE r.call = call_owners.call);

DROP INDEX call_records_by_target;
DROP INDEX call_records_by_reason;
DROP INDEX call_records_by_class;
DROP INDEX call_records_by_direction;
CREATE INDEX call_records_by_kind ON call_records (kind, started_at DESC, call DESC);
CREATE INDEX call_records_by_caller_kind ON call_records (caller, kind, started_at DESC, call DESC);
CREATE INDEX call_records_by_callee_kind ON call_records (callee, kind, started_at DESC, call DESC);
CREATE INDEX call_records_by_pair ON call_records (caller, callee, started_at DESC, call DESC, kind);
CREATE INDEX call_owners_by_kind ON call_owners (owner, kind, started_at DESC, call DESC);

-- A turn's number among all says when its call began (ms, times 2^20), so that the index of words can be read latest first.
CREATE TABLE turns_new (
    id INTEGER PRIMARY KEY NOT NULL,
    call TEXT NOT NULL REFERENCES call_records (call) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    speaker TEXT NOT NULL,
    text TEXT NOT NULL,
    -- What lists filter by, as words that nobody says.
    facets TEXT NOT NULL DEFAULT '',
    started_ms DOUBLE PRECISION NOT NULL,
    ended_ms DOUBLE PRECISION NOT NULL,
    gap_ms DOUBLE PRECISION,
    UNIQUE (call, number)
);
INSERT INTO turns_new (id, call, number, speaker, text, facets, started_ms, ended_ms, gap_ms)
    SELECT (r.started_at << 20) + ROW_NUMBER() OVER (PARTITION BY r.started_at ORDER BY t.call, t.number), t.call, t.number, t.speaker, t.text,
           '@d' || lower(hex(substr(r.direction, 1, 64))) || ' @t' || lower(hex(substr(r.target, 1, 64)))
           || ' @c' || lower(hex(substr(r.class, 1, 64))) || ' @r' || lower(hex(substr(r.reason, 1, 64)))
           || ' @f' || lower(hex(substr(r.caller, 1, 64))) || ' @e' || lower(hex(substr(r.callee, 1, 64)))
           || ' @wa' || (r.started_at >> 22) || ' @wb' || (r.started_at >> 26)
           || ' @wc' || (r.started_at >> 30) || ' @wd' || (r.started_at >> 34)
           || COALESCE((SELECT group_concat(' @o' || lower(hex(substr(o.owner, 1, 64))), '') FROM call_owners o WHERE o.call = r.call), ''),
           t.started_ms, t.ended_ms, t.gap_ms
    FROM turns t JOIN call_records r ON r.call = t.call;
DROP TABLE turn_words;
DROP TABLE turns;
ALTER TABLE turns_new RENAME TO turns;
CREATE VIRTUAL TABLE turn_words USING fts5 (text, facets, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO turn_words (turn_words, rank) VALUES ('secure-delete', 1);
INSERT INTO turn_words (turn_words) VALUES ('rebuild');
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
    INSERT INTO turn_words (rowid, text, facets) VALUES (new.id, new.text, new.facets);
END;
CREATE TRIGGER turns_removed AFTER DELETE ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets) VALUES ('delete', old.id, old.text, old.facets);
END;
CREATE TRIGGER turns_changed AFTER UPDATE OF text, facets ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets) VALUES ('delete', old.id, old.text, old.facets);
    INSERT INTO turn_words (rowid, text, facets) VALUES (new.id, new.text, new.facets);
END;

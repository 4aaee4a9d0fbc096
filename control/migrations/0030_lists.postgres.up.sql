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

-- A turn's number among all says when its call began (ms, times 2^20), as SQLite's index of words has it.
ALTER TABLE turns ALTER COLUMN id DROP IDENTITY;
-- What lists filter by, as words that nobody says.
ALTER TABLE turns ADD COLUMN facets TEXT NOT NULL DEFAULT '';
DROP INDEX turns_by_word;
UPDATE turns SET id = n.id, facets = n.facets FROM (
    SELECT t.call, t.number, (r.started_at << 20) + ROW_NUMBER() OVER (PARTITION BY r.started_at ORDER BY t.call, t.number) AS id,
           '@d' || encode(convert_to(left(r.direction, 64), 'UTF8'), 'hex') || ' @t' || encode(convert_to(left(r.target, 64), 'UTF8'), 'hex')
           || ' @c' || encode(convert_to(left(r.class, 64), 'UTF8'), 'hex') || ' @r' || encode(convert_to(left(r.reason, 64), 'UTF8'), 'hex')
           || ' @f' || encode(convert_to(left(r.caller, 64), 'UTF8'), 'hex') || ' @e' || encode(convert_to(left(r.callee, 64), 'UTF8'), 'hex')
           || ' @wa' || (r.started_at >> 22) || ' @wb' || (r.started_at >> 26)
           || ' @wc' || (r.started_at >> 30) || ' @wd' || (r.started_at >> 34)
           || COALESCE((SELECT string_agg(' @o' || encode(convert_to(left(o.owner, 64), 'UTF8'), 'hex'), '') FROM call_owners o WHERE o.call = r.call), '')
           AS facets
    FROM turns t JOIN call_records r ON r.call = t.call
) AS n WHERE turns.call = n.call AND turns.number = n.number;
-- Without a list of what is yet to be put in, which every search would read through.
CREATE INDEX turns_by_word ON turns USING gin ((to_tsvector('simple', text) || array_to_tsvector(string_to_array(facets, ' ')))) WITH (fastupdate = off);

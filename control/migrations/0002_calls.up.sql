-- Ended calls. What lists filter by stands in columns, the whole record as the journal had it in the last one.
CREATE TABLE call_records (
    call TEXT PRIMARY KEY NOT NULL,
    started_at BIGINT NOT NULL,
    answered_at BIGINT,
    ended_at BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    direction TEXT NOT NULL,
    -- The user parts of the addresses, for filters.
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    target TEXT NOT NULL,
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    codec TEXT NOT NULL,
    recording TEXT,
    mos_in DOUBLE PRECISION,
    gap_ms DOUBLE PRECISION,
    record TEXT NOT NULL
);
CREATE INDEX call_records_by_start ON call_records (started_at DESC, call DESC);
CREATE INDEX call_records_by_caller ON call_records (caller, started_at DESC, call DESC);
CREATE INDEX call_records_by_callee ON call_records (callee, started_at DESC, call DESC);
CREATE INDEX call_records_by_target ON call_records (target, started_at DESC, call DESC);
CREATE INDEX call_records_by_reason ON call_records (reason, started_at DESC, call DESC);
CREATE INDEX call_records_by_class ON call_records (class, started_at DESC, call DESC);
CREATE INDEX call_records_by_direction ON call_records (direction, started_at DESC, call DESC);

-- Whose calls they were: `device/NAME` of each device in it, `team/ID` of the teams that their users belonged to then.
CREATE TABLE call_owners (
    owner TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    call TEXT NOT NULL REFERENCES call_records (call) ON DELETE CASCADE,
    PRIMARY KEY (owner, started_at, call)
);
CREATE INDEX call_owners_by_call ON call_owners (call);

-- How far the journal of each server has been read.
CREATE TABLE journals (
    node TEXT PRIMARY KEY NOT NULL,
    position BIGINT NOT NULL,
    -- Hash of the journal's beginning: another file begins at nought.
    head TEXT NOT NULL
);

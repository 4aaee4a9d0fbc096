-- Lines of a journal that are not among the calls: the database refused them for what they contain, or they are none of a call. The lines stay
-- in the journal, where they stand.
CREATE TABLE refused_calls (
    -- The server whose journal it is, what that begins with, and bytes from there.
    node TEXT NOT NULL,
    head TEXT NOT NULL,
    position BIGINT NOT NULL,
    -- Nothing where it cannot be read.
    call TEXT NOT NULL,
    -- When the call began, or when the line was looked at where that cannot be read.
    started_at BIGINT NOT NULL,
    recording TEXT,
    fault TEXT NOT NULL,
    PRIMARY KEY (node, head, position)
);

-- Names that are longer than an entry of PostgreSQL's indexes are cut, as the program cuts what comes now.
UPDATE call_records SET caller = substr(caller, 1, 200) WHERE length(caller) > 200;
UPDATE call_records SET callee = substr(callee, 1, 200) WHERE length(callee) > 200;

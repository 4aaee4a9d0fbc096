-- People who are called or call, what came of calls with them, and who is not to be called.
CREATE TABLE contacts (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    -- The name in lower case: lists go by it and are searched in it.
    folded TEXT NOT NULL,
    email TEXT,
    company TEXT,
    note TEXT,
    owner TEXT REFERENCES users (id) ON DELETE SET NULL,
    team_id TEXT REFERENCES teams (id) ON DELETE SET NULL,
    -- An object of texts, as JSON.
    attributes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX contacts_by_name ON contacts (folded, id);
CREATE INDEX contacts_by_owner ON contacts (owner, folded, id);
CREATE INDEX contacts_by_team ON contacts (team_id, folded, id);

CREATE TABLE contact_numbers (
    contact TEXT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    -- E.164.
    number TEXT NOT NULL,
    PRIMARY KEY (contact, position)
);
CREATE INDEX contact_numbers_by_number ON contact_numbers (number, contact);

-- What may come of a call.
CREATE TABLE dispositions (
    name TEXT PRIMARY KEY NOT NULL,
    label TEXT NOT NULL,
    final BIGINT NOT NULL,
    call_back BIGINT NOT NULL,
    do_not_call BIGINT NOT NULL
);
INSERT INTO dispositions (name, label, final, call_back, do_not_call) VALUES
    ('reached', 'Reached', 1, 0, 0),
    ('no_answer', 'No answer', 0, 1, 0),
    ('busy', 'Busy', 0, 1, 0),
    ('voicemail', 'Voicemail', 0, 1, 0),
    ('call_back', 'Wants to be called back', 0, 1, 0),
    ('wrong_number', 'Wrong number', 1, 0, 0),
    ('not_interested', 'Not interested', 1, 0, 0),
    ('do_not_call', 'Do not call again', 1, 0, 1);

CREATE TABLE interactions (
    id TEXT PRIMARY KEY NOT NULL,
    -- The call may be over and its record not there yet, or gone by its age.
    call TEXT,
    contact TEXT REFERENCES contacts (id) ON DELETE SET NULL,
    -- Whom it was with, E.164, where it is known.
    number TEXT,
    user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
    -- The user's team then.
    team_id TEXT REFERENCES teams (id) ON DELETE SET NULL,
    -- A name that may be gone from the list since.
    disposition TEXT NOT NULL,
    note TEXT,
    at BIGINT NOT NULL,
    follow_up_at BIGINT,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX interactions_by_time ON interactions (at DESC, id DESC);
CREATE INDEX interactions_by_contact ON interactions (contact, at DESC, id DESC);
CREATE INDEX interactions_by_user ON interactions (user_id, at DESC, id DESC);
CREATE INDEX interactions_by_team ON interactions (team_id, at DESC, id DESC);
CREATE INDEX interactions_by_disposition ON interactions (disposition, at DESC, id DESC);
CREATE INDEX interactions_by_call ON interactions (call);
CREATE INDEX interactions_by_number ON interactions (number);

CREATE TABLE do_not_call (
    number TEXT PRIMARY KEY NOT NULL,
    reason TEXT,
    -- `list`, `interaction`.
    source TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    expires_at BIGINT
);

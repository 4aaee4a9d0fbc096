-- Voice agents that are made by people: every version of a definition stays, one at most takes calls.
CREATE TABLE agents (
    name TEXT PRIMARY KEY NOT NULL,
    -- The version that takes calls.
    published BIGINT,
    latest BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE agent_versions (
    agent TEXT NOT NULL REFERENCES agents (name) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    definition TEXT NOT NULL,
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (agent, number)
);

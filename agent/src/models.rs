//! Models that are too large to ship: what there is, where it comes from, and fetching it safely.

//! The bodies of event packages: what a NOTIFY says. Each module builds the document and reads it again.

pub mod message_summary;
pub mod sipfrag;

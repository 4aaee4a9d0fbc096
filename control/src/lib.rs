//! The control plane: users and keys, records of calls, what happens live, and the HTTP interface to all of it. It meets calls only
//! through [`ports`].
//!
//! | module | does |
//! | --- | --- |
//! | [`ports`] | what is asked of calls, and what they tell |
//! | [`store`] | SQLite or PostgreSQL, a file a table |
//! | [`identity`] | who somebody is and what they may do |
//! | [`journal`] | ended calls into the database |
//! | [`retention`] | how long things are kept |
//! | [`numbers`] | phone numbers as they are kept |
//! | [`live`] | events for those who watch |
//! | [`presence`] | who takes calls, who waits for them |
//! | [`settings`] | trunks, numbers, routes and devices that are changed while calls run |
//! | [`outside`] | which addresses may be asked where others say where |
//! | [`webhooks`] | events to other systems by HTTP |
//! | [`api`] | the HTTP interface, a file a resource |
//! | [`backup`] | everything as one file, and back |
//! | [`control`] | all of it, opened and kept running |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
pub mod api;
pub mod backup;
pub mod control;
pub mod fault;
pub mod identity;
pub mod journal;
pub mod live;
pub mod numbers;
pub mod outside;
pub mod ports;
pub mod presence;
pub mod retention;
pub mod settings;
pub mod store;
pub mod time;
pub mod webhooks;

pub use control::{Control, Options};

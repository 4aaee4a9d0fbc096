//! The queue that a rule makes, in which callers wait.

use std::time::Duration;

use sip::Message;

use super::{Router, passed_to_device};
use crate::call::queue::Queue;
use crate::config::RouteConfig;

impl Router {
    /// The queue that callers wait in whom a rule sends there; `None` where they do not wait.
    pub(super) fn line_of(&self, rule: &RouteConfig, invite: Option<&Message>) -> Option<Queue> {
        let known = rule.queue().filter(|_| rule.wait_s > 0)?;
        let mut members = Vec::with_capacity(known.members.len());
        for device in known.members.iter().filter_map(|name| self.accounts.named(name)) {
            if !members.contains(&device.user) {
                members.push(device.user.clone());
            }
        }
        Some(Queue {
            name: known.name.into(),
            members,
            order: rule.ring,
            ring_for: rule.ring_for().unwrap_or(self.config.registrar.ring_for()),
            wait_for: Duration::from_secs(rule.wait_s),
            limit: rule.wait_limit,
            priority: rule.priority,
            wrap_up: Duration::from_secs(rule.wrap_up_s),
            greeting: rule.greeting.clone(),
            position: rule.position.clone(),
            position_every: Duration::from_secs(rule.position_s),
            then: rule.then.clone(),
            leave_key: rule.leave_key(),
            headers: passed_to_device(invite).into_iter().filter(|(name, _)| name != "Max-Forwards").collect(),
        })
    }
}

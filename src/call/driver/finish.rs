//! The end of a call: the legs are given back, what is still told is gathered, and the record is written.

use std::time::{Duration, SystemTime};

use super::{Driver, Incoming};
use crate::call::end::{End, EndReason};
use crate::call::inbound::Refusal;
use crate::call::log::{CallLog, new_id};
use crate::call::record::CallRecord;
use crate::call::route::Target;
use crate::call::{Role, Stage, note_refused};
use crate::hub::Hub;

/// A conversation whose line is closed ends within this.
const CONVERSATION_ENDS_WITHIN: Duration = Duration::from_secs(3);

impl Driver {
    /// Gives the legs back, gathers what conversations still tell, and writes the record.
    pub(super) async fn finish(mut self: Box<Self>, end: End) {
        let end = match end.reason {
            EndReason::MaxDuration if self.is_duration_asked => {
                tracing::info!(call = %self.log.id(), "call {}: the duration asked for is over", self.log.id());
                End::new(EndReason::Commanded).with_detail("the duration asked for is over")
            }
            _ => end,
        };
        self.hub.places.leave(&self.inbox.address.call);
        self.note_fetched();
        self.let_go();
        self.legs.iter_mut().for_each(|leg| leg.stage = Stage::Over);
        self.show();
        self.turn_away_arrivals();
        for at in 0..self.legs.len() {
            let Some(leg) = self.legs.get_mut(at) else { break };
            let no = leg.no;
            leg.line.close();
            if let Some(sip) = leg.sip {
                self.hub.switchboard.disconnect(sip);
            }
            let Some(conversation) = leg.line.take_conversation() else { continue };
            match tokio::time::timeout(CONVERSATION_ENDS_WITHIN, conversation).await {
                Ok(outcome) => {
                    self.conversed(no, outcome);
                }
                Err(_) => {
                    tracing::error!(call = %self.log.id(), "call {}: its conversation did not end with it", self.log.id());
                }
            }
        }
        for leg in &self.legs {
            if let Some(stats) = leg.line.stats() {
                self.log.set_media(leg.no, &stats);
            }
            if let Some(gauge) = &leg.gauge {
                self.log.measured(leg.no, &gauge.stats());
            }
        }
        self.catch_up();
        let record = self.log.close(end, &self.hub.config.prices, SystemTime::now());
        if let Some(live) = &self.hub.live {
            live.ended(&record);
        }
        write_record(&self.hub, record);
    }
}

impl Driver {
    /// Whoever was not told to end is: nobody listens to them from here on.
    fn let_go(&self) {
        for leg in self.legs.iter().filter(|leg| leg.stage == Stage::Here) {
            let Some(sip) = leg.sip else { continue };
            note_refused(match (leg.is_up, leg.role) {
                (false, Role::Caller) => self.hub.signal().reject(sip, 480, None),
                _ => self.hub.signal().bye(sip, None),
            });
        }
    }
}

fn write_record(hub: &Hub, record: CallRecord) {
    let end = &record.end;
    metrics::counter!("omnivox_calls_total", "class" => end.class.as_str(), "reason" => end.reason.as_str())
        .increment(1);
    tracing::info!(
        call = record.call,
        class = end.class.as_str(),
        reason = end.reason.as_str(),
        duration_ms = record.duration_ms,
        "call {} ended: {} ({}) after {} ms",
        record.call,
        end.reason.as_str(),
        end.class.as_str(),
        record.duration_ms,
    );
    if let Some(cost) = &record.cost {
        cost.count();
    }
    if let Some(traces) = &hub.traces {
        traces.call(&record);
    }
    hub.records.push(record);
}

/// The record of a call that was refused before it had a driver.
pub fn record_refusal(hub: &Hub, incoming: &Incoming, refusal: &Refusal) {
    metrics::counter!("omnivox_calls_refused_total", "code" => refusal.code.to_string()).increment(1);
    let now = SystemTime::now();
    let log = CallLog::inbound(&new_id(now), incoming, &Target::App("none".into()), now);
    hub.tracer.link(log.id(), incoming.request.call_id());
    write_record(hub, log.close(refusal.answered(), &hub.config.prices, now));
}

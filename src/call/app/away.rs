//! A program's call while somebody else has its caller: the program gives the line away and waits for it in a task of its own, so that whatever
//! else it does goes on. It gets the line back with the reason, or learns that it will not.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::{ActiveCall, Comeback, Conversation, Outcome, Resume};
use crate::call::ConversationEnd;
use crate::call::held_line::nobody_to_return_to;
use crate::call::line::CallLine;

/// A line that its program gives away.
#[derive(Debug)]
pub(super) struct Parting {
    /// Why.
    pub end: ConversationEnd,
    /// The line.
    pub line: CallLine,
    /// Where it is given back; dropped where it is not.
    pub back: oneshot::Sender<Comeback>,
}

/// A program at work on a call, which it gives back at the end; `None` where it panicked.
type Program = Pin<Box<dyn Future<Output = Option<ActiveCall>> + Send>>;

/// A program's task that is waited for: it ends with whoever waits.
struct Joined(JoinHandle<Option<ActiveCall>>);

impl Drop for Joined {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a program until it is done with its call, or the line goes to somebody else.
pub(super) fn converse(mut program: Program, mut parted: mpsc::Receiver<Parting>) -> Conversation {
    Box::pin(async move {
        let call = tokio::select! {
            biased;
            Some(parting) = parted.recv() => return wait(parting, program, parted),
            call = &mut program => call,
        };
        match (call, parted.try_recv()) {
            (Some(call), Err(_)) => done(call).await,
            // The last that it did was to give the line away.
            (_, Ok(Parting { end, line, .. })) => Outcome { end, line, providers: None, resume: None },
            (None, Err(_)) => {
                let what = "the program that had the call panicked".to_owned();
                let end = ConversationEnd::Failed { what, upstream: false };
                Outcome { end, line: CallLine::closed(), providers: None, resume: None }
            }
        }
    })
}

/// The line is somebody else's; the program goes on in a task, which sees the call close where the line does not come back.
fn wait(parting: Parting, program: Program, parted: mpsc::Receiver<Parting>) -> Outcome {
    let Parting { end, line, back } = parting;
    let task = tokio::spawn(agent::traced::within(agent::traced::current(), program).in_current_span());
    let resume = Resume(Box::new(move |why, line| -> Conversation {
        let mut task = Joined(task);
        match back.send((why, line)) {
            Ok(()) => converse(Box::pin(async move { (&mut task.0).await.ok().flatten() }), parted),
            Err((why, line)) => Box::pin(async move { unwanted(&why, line) }),
        }
    }));
    Outcome { end, line, providers: None, resume: Some(resume) }
}

/// The program is done with its call.
async fn done(mut call: ActiveCall) -> Outcome {
    let was_away = call.away.is_some();
    call.come_back().await;
    if let Some(why) = call.returned.take().filter(|_| was_away) {
        return unwanted(&why, call.line);
    }
    call.drain().await;
    let end = if call.is_closed { ConversationEnd::LineClosed } else { ConversationEnd::Done(call.farewell) };
    Outcome { end, line: call.line, providers: None, resume: None }
}

/// The caller is back, and the program did not wait for them.
fn unwanted(why: &str, line: CallLine) -> Outcome {
    Outcome { end: nobody_to_return_to(why), line, providers: None, resume: None }
}

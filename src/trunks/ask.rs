//! Requests of ours outside of calls, and who waits for their answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sip::Message;
use sip::endpoint::{OutgoingRequest, RequestId};
use sip::io::SipHandle;
use tokio::sync::oneshot;

/// What came of a request: the status (408 where nobody answered, 503 where it could not be sent), and the response.
pub(crate) type Answer = (u16, Option<Arc<Message>>);

/// Sends requests and hands their answers to those who wait.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) sip: SipHandle,
    waiting: Arc<Mutex<HashMap<RequestId, oneshot::Sender<Answer>>>>,
}

impl Asker {
    /// Nobody waits yet.
    pub(crate) fn new(sip: SipHandle) -> Self {
        Self { sip, waiting: Arc::default() }
    }

    /// Sends a request and waits for its final answer.
    ///
    /// # Errors
    /// It could not be sent at all: why.
    pub(crate) async fn ask(&self, request: OutgoingRequest) -> Result<Answer, String> {
        let (tell, answer) = oneshot::channel();
        let waiting = Arc::clone(&self.waiting);
        let (failed, failure) = oneshot::channel();
        self.sip
            .send_request(request, move |sent| match sent {
                Ok(id) => _ = waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell),
                Err(fault) => _ = failed.send(fault.to_string()),
            })
            .map_err(|fault| fault.to_string())?;
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(failure.await.unwrap_or_else(|_| "signalling has stopped".to_owned())),
        }
    }

    /// An answer came.
    pub(crate) fn answered(&self, request: RequestId, code: u16, response: Option<Arc<Message>>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
        if let Some(tell) = waiting {
            // Whoever asked may have gone.
            let _ = tell.send((code, response));
        }
    }
}

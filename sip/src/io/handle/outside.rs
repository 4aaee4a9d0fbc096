//! Commands on referrals, subscriptions and requests outside of calls.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Command, HandleError, InviteError, SipHandle};
use crate::endpoint::{
    CallId, CommandError, DialogIdentity, OutgoingRequest, OutgoingSubscription, RequestId, SubscriptionId,
};
use crate::headers::TerminatedReason;

impl SipHandle {
    /// Sends a request outside of calls; see [`Endpoint::request`](crate::Endpoint::request). Its [`Event::Response`](crate::Event::Response) may
    /// arrive before this returns.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn request(&self, request: OutgoingRequest) -> Result<RequestId, InviteError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Run(Box::new(move |endpoint, now| _ = reply.send(endpoint.request(now, request)))))?;
        Ok(answer.await.map_err(|_| HandleError::Stopped)??)
    }

    /// Sends a request outside of calls without waiting. `sent` is told on the SIP thread, before any event of the request.
    ///
    /// # Errors
    /// [`HandleError`]; `sent` is then not told.
    pub fn send_request(
        &self,
        request: OutgoingRequest,
        sent: impl FnOnce(Result<RequestId, CommandError>) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.give(Command::Run(Box::new(move |endpoint, now| sent(endpoint.request(now, request)))))
    }

    /// See [`Endpoint::respond_request`](crate::Endpoint::respond_request).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn respond_request(
        &self,
        request: RequestId,
        code: u16,
        reason: &str,
        headers: Vec<(String, String)>,
        body: Option<(String, Bytes)>,
    ) -> Result<(), HandleError> {
        let reason = reason.to_owned();
        self.run(move |endpoint, now| {
            let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
            endpoint.respond_request(now, request, code, &reason, &headers, body)
        })
    }

    /// See [`Endpoint::accept_refer`](crate::Endpoint::accept_refer).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn accept_refer(&self, call: CallId) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.accept_refer(now, call))
    }

    /// See [`Endpoint::reject_refer`](crate::Endpoint::reject_refer).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn reject_refer(&self, call: CallId, code: u16) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.reject_refer(now, call, code))
    }

    /// See [`Endpoint::notify_refer`](crate::Endpoint::notify_refer).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn notify_refer(&self, call: CallId, code: u16, reason: &str) -> Result<(), HandleError> {
        let reason = reason.to_owned();
        self.run(move |endpoint, now| endpoint.notify_refer(now, call, code, &reason))
    }

    /// See [`Endpoint::refer`](crate::Endpoint::refer).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn refer(&self, call: CallId, refer_to: &str, referred_by: Option<&str>) -> Result<(), HandleError> {
        let refer_to = refer_to.to_owned();
        let referred_by = referred_by.map(str::to_owned);
        self.run(move |endpoint, now| endpoint.refer(now, call, &refer_to, referred_by.as_deref()))
    }

    /// See [`Endpoint::send_message`](crate::Endpoint::send_message).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn send_message(&self, call: CallId, content_type: &str, body: Bytes) -> Result<(), HandleError> {
        let content_type = content_type.to_owned();
        self.run(move |endpoint, now| endpoint.send_message(now, call, &content_type, body))
    }

    /// See [`Endpoint::identify`](crate::Endpoint::identify).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn identify(&self, call: CallId, from: String, headers: Vec<(String, String)>) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.identify(now, call, &from, &headers))
    }

    /// What identifies a call on the wire; `None` for one that is over.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn dialog_identity(&self, call: CallId) -> Result<Option<DialogIdentity>, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Run(Box::new(move |endpoint, _| _ = reply.send(endpoint.dialog_identity(call)))))?;
        answer.await.map_err(|_| HandleError::Stopped)
    }

    /// The call of a dialog; see [`Endpoint::find_call`](crate::Endpoint::find_call).
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn find_call(
        &self,
        call_id: String,
        to_tag: String,
        from_tag: String,
    ) -> Result<Option<CallId>, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Run(Box::new(move |endpoint, _| {
            let _ = reply.send(endpoint.find_call(&call_id, &to_tag, &from_tag));
        })))?;
        answer.await.map_err(|_| HandleError::Stopped)
    }

    /// See [`Endpoint::accept_subscription`](crate::Endpoint::accept_subscription).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn accept_subscription(
        &self,
        subscription: SubscriptionId,
        expires: Duration,
        document: Option<(String, Bytes)>,
    ) -> Result<(), HandleError> {
        self.run(move |endpoint, now| {
            let document = document.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
            endpoint.accept_subscription(now, subscription, expires, document)
        })
    }

    /// See [`Endpoint::reject_subscription`](crate::Endpoint::reject_subscription).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn reject_subscription(
        &self,
        subscription: SubscriptionId,
        code: u16,
        headers: Vec<(String, String)>,
    ) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.reject_subscription(now, subscription, code, &headers))
    }

    /// See [`Endpoint::notify`](crate::Endpoint::notify).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn notify(&self, subscription: SubscriptionId, content_type: &str, body: Bytes) -> Result<(), HandleError> {
        let content_type = content_type.to_owned();
        self.run(move |endpoint, now| endpoint.notify(now, subscription, &content_type, body))
    }

    /// See [`Endpoint::end_subscription`](crate::Endpoint::end_subscription).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn end_subscription(
        &self,
        subscription: SubscriptionId,
        reason: TerminatedReason,
        retry_after: Option<Duration>,
    ) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.end_subscription(now, subscription, reason, retry_after))
    }

    /// See [`Endpoint::unsubscribe`](crate::Endpoint::unsubscribe).
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn unsubscribe(&self, subscription: SubscriptionId) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.unsubscribe(now, subscription))
    }

    /// See [`Endpoint::subscribe`](crate::Endpoint::subscribe). Its events may arrive before this returns.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn subscribe(&self, subscription: OutgoingSubscription) -> Result<SubscriptionId, InviteError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Run(Box::new(move |endpoint, now| _ = reply.send(endpoint.subscribe(now, subscription)))))?;
        Ok(answer.await.map_err(|_| HandleError::Stopped)??)
    }
}

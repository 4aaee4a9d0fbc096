//! One POST to an endpoint: to public addresses and networks named in the configuration, without following redirects, and soon.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{StatusCode, Url};

use super::signature::{ID, SIGNATURE, TIMESTAMP};
use crate::outside::{self, Asking, Outside};
use crate::time::Moment;

/// An endpoint answers within this.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Characters of an error that are kept.
const ERROR_CHARS: usize = 200;

/// Sends; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Asking);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where to.
    pub url: String,
    /// `webhook-id`: the same each time it is sent.
    pub id: String,
    /// When it is sent, in seconds since 1970.
    pub seconds: i64,
    /// Its signatures.
    pub signatures: String,
    /// JSON.
    pub body: String,
    /// The trace that it is sent in, where it is.
    pub traceparent: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was taken (2xx).
    Delivered {
        /// The status.
        status: u16,
    },
    /// It was not.
    Refused {
        /// The status.
        status: u16,
        /// The endpoint asks to be left alone for so long, in seconds.
        retry_after_s: Option<i64>,
    },
    /// The endpoint wants nothing more, ever (410).
    Gone,
    /// Nobody answered, or nobody was asked.
    Unreachable(String),
}

impl Answer {
    /// Whether it arrived.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered { .. })
    }

    /// The status, where there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status } | Self::Refused { status, .. } => Some(*status),
            Self::Gone => Some(410),
            Self::Unreachable(_) => None,
        }
    }

    /// How long the endpoint asks to be left alone, in seconds.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<i64> {
        match self {
            Self::Refused { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }

    /// What went wrong, in words.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Delivered { .. } => None,
            Self::Refused { status: status @ 300..=399, .. } => {
                Some(format!("it answers {status}: redirects are not followed, set url to where it leads"))
            }
            Self::Refused { status, .. } => Some(format!("it answers {status}")),
            Self::Gone => Some("it answers 410: gone".to_owned()),
            Self::Unreachable(why) => Some(why.clone()),
        }
    }
}

impl Client {
    /// A client that may ask what is outside.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(outside: Outside) -> Result<Self, reqwest::Error> {
        Asking::new(outside, ANSWERS_WITHIN).map(Self)
    }

    /// Whether an endpoint may be there.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn check(&self, url: &str) -> Result<(), String> {
        let url = Url::parse(url).map_err(|fault| format!("it is no URL: {fault}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("leave name and password out of it: what is sent is signed".to_owned());
        }
        if url.fragment().is_some() {
            return Err("leave out what follows `#`".to_owned());
        }
        let fix = "write https://HOST/PATH of a public host, or have its network named in control.webhooks_allow";
        self.0.of(&url).map(|_| ()).map_err(|refused| format!("{refused}: {fix}"))
    }

    /// Sends a message.
    pub async fn send(&self, message: Message) -> Answer {
        match self.post(message).await {
            Ok(answer) => answer,
            Err(why) => Answer::Unreachable(why.chars().take(ERROR_CHARS).collect()),
        }
    }

    async fn post(&self, message: Message) -> Result<Answer, String> {
        let url = Url::parse(&message.url).map_err(|fault| fault.to_string())?;
        let client = self.0.of(&url).map_err(|refused| refused.to_string())?;
        let mut request = client
            .post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("omnivox/", env!("CARGO_PKG_VERSION"))))
            .header(ID, message.id)
            .header(TIMESTAMP, message.seconds.to_string())
            .header(SIGNATURE, message.signatures)
            .body(message.body);
        if let Some(traceparent) = &message.traceparent {
            request = request.header("traceparent", traceparent);
        }
        // What the endpoint says beyond its status is nobody's business: it is not even read.
        let answer = request.send().await.map_err(|fault| cause(&fault))?;
        let retry_after_s = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        Ok(match answer.status() {
            status if status.is_success() => Answer::Delivered { status: status.as_u16() },
            StatusCode::GONE => Answer::Gone,
            status => Answer::Refused { status: status.as_u16(), retry_after_s },
        })
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str) -> Option<i64> {
    let value = value.trim();
    value.parse().ok().or_else(|| {
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
        Some((at - Moment::now().0).max(0) / 1_000)
    })
}

/// What lies at the bottom of an error.
fn cause(fault: &reqwest::Error) -> String {
    if fault.is_timeout() {
        return format!("it does not answer within {} s", ANSWERS_WITHIN.as_secs());
    }
    outside::cause(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 "), Some(120));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|wait| wait > 1_000_000));
        assert_eq!(retry_after("soon"), None);
    }

    #[tokio::test]
    async fn nobody_is_led_inside_and_what_is_wrong_with_a_url_is_said() {
        let client = Client::new(Outside::default()).unwrap();
        for (url, why) in [
            ("https://127.0.0.1/", "no public address"),
            ("https://localhost/", "no public address"),
            ("http://example.com/", "not HTTPS"),
            ("file:///etc/passwd", "neither https: nor http:"),
        ] {
            let message = Message {
                url: url.into(),
                id: "msg_1".into(),
                seconds: 0,
                signatures: String::new(),
                body: String::new(),
                traceparent: None,
            };
            let Answer::Unreachable(told) = client.send(message).await else { unreachable!("{url}") };
            assert!(told.contains(why), "{url}: {told}");
        }
        for (url, why) in
            [("https://me:pw@example.com/", "password"), ("https://example.com/#x", "#"), ("nonsense", "no URL")]
        {
            assert!(client.check(url).unwrap_err().contains(why), "{url}");
        }
        assert_eq!(client.check("https://example.com/hook?x=1"), Ok(()));
    }
}

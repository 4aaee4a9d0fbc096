//! Header names: the known ones as an enum, their full and compact forms.

use std::fmt;

macro_rules! names {
    ($($variant:ident $lower:literal $full:literal $doc:literal;)*) => {
        /// A header that has a name of its own here. Anything else is [`Name::Other`] and is found by its text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = $doc] $variant,)*
            /// Not in this list.
            Other,
        }

        impl Name {
            /// The name as it is written in full; empty for [`Name::Other`].
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Name::$variant => $full,)*
                    Name::Other => "",
                }
            }

            fn from_lower(lower: &[u8]) -> Name {
                match lower {
                    $($lower => Name::$variant,)*
                    _ => Name::Other,
                }
            }

            /// Every name but [`Name::Other`].
            pub const ALL: &'static [Name] = &[$(Name::$variant,)*];
        }
    };
}

names! {
    Via b"via" "Via" "RFC 3261 section 20.42.";
    From b"from" "From" "RFC 3261 section 20.20.";
    To b"to" "To" "RFC 3261 section 20.39.";
    CallId b"call-id" "Call-ID" "RFC 3261 section 20.8.";
    CSeq b"cseq" "CSeq" "RFC 3261 section 20.16.";
    Contact b"contact" "Contact" "RFC 3261 section 20.10.";
    MaxForwards b"max-forwards" "Max-Forwards" "RFC 3261 section 20.22.";
    Route b"route" "Route" "RFC 3261 section 20.34.";
    RecordRoute b"record-route" "Record-Route" "RFC 3261 section 20.30.";
    ContentType b"content-type" "Content-Type" "RFC 3261 section 20.15.";
    ContentLength b"content-length" "Content-Length" "RFC 3261 section 20.14.";
    ContentDisposition b"content-disposition" "Content-Disposition" "RFC 3261 section 20.11.";
    ContentEncoding b"content-encoding" "Content-Encoding" "RFC 3261 section 20.12.";
    ContentLanguage b"content-language" "Content-Language" "RFC 3261 section 20.13.";
    Accept b"accept" "Accept" "RFC 3261 section 20.1.";
    AcceptEncoding b"accept-encoding" "Accept-Encoding" "RFC 3261 section 20.2.";
    AcceptLanguage b"accept-language" "Accept-Language" "RFC 3261 section 20.3.";
    AlertInfo b"alert-info" "Alert-Info" "RFC 3261 section 20.4.";
    Allow b"allow" "Allow" "RFC 3261 section 20.5.";
    AllowEvents b"allow-events" "Allow-Events" "RFC 6665.";
    AuthenticationInfo b"authentication-info" "Authentication-Info" "RFC 3261 section 20.6.";
    Authorization b"authorization" "Authorization" "RFC 3261 section 20.7.";
    CallInfo b"call-info" "Call-Info" "RFC 3261 section 20.9.";
    Date b"date" "Date" "RFC 3261 section 20.17.";
    Diversion b"diversion" "Diversion" "RFC 5806.";
    ErrorInfo b"error-info" "Error-Info" "RFC 3261 section 20.18.";
    Event b"event" "Event" "RFC 6665.";
    Expires b"expires" "Expires" "RFC 3261 section 20.19.";
    HistoryInfo b"history-info" "History-Info" "RFC 7044.";
    Identity b"identity" "Identity" "RFC 8224.";
    InfoPackage b"info-package" "Info-Package" "RFC 6086.";
    InReplyTo b"in-reply-to" "In-Reply-To" "RFC 3261 section 20.21.";
    MimeVersion b"mime-version" "MIME-Version" "RFC 3261 section 20.24.";
    MinExpires b"min-expires" "Min-Expires" "RFC 3261 section 20.23.";
    MinSe b"min-se" "Min-SE" "RFC 4028.";
    Organization b"organization" "Organization" "RFC 3261 section 20.25.";
    PAssertedIdentity b"p-asserted-identity" "P-Asserted-Identity" "RFC 3325.";
    PPreferredIdentity b"p-preferred-identity" "P-Preferred-Identity" "RFC 3325.";
    Path b"path" "Path" "RFC 3327.";
    Priority b"priority" "Priority" "RFC 3261 section 20.26.";
    Privacy b"privacy" "Privacy" "RFC 3323.";
    ProxyAuthenticate b"proxy-authenticate" "Proxy-Authenticate" "RFC 3261 section 20.27.";
    ProxyAuthorization b"proxy-authorization" "Proxy-Authorization" "RFC 3261 section 20.28.";
    ProxyRequire b"proxy-require" "Proxy-Require" "RFC 3261 section 20.29.";
    RAck b"rack" "RAck" "RFC 3262.";
    RSeq b"rseq" "RSeq" "RFC 3262.";
    Reason b"reason" "Reason" "RFC 3326.";
    RecvInfo b"recv-info" "Recv-Info" "RFC 6086.";
    ReferTo b"refer-to" "Refer-To" "RFC 3515.";
    ReferredBy b"referred-by" "Referred-By" "RFC 3892.";
    Replaces b"replaces" "Replaces" "RFC 3891.";
    ReplyTo b"reply-to" "Reply-To" "RFC 3261 section 20.31.";
    Require b"require" "Require" "RFC 3261 section 20.32.";
    RetryAfter b"retry-after" "Retry-After" "RFC 3261 section 20.33.";
    Server b"server" "Server" "RFC 3261 section 20.35.";
    ServiceRoute b"service-route" "Service-Route" "RFC 3608.";
    SessionExpires b"session-expires" "Session-Expires" "RFC 4028.";
    Subject b"subject" "Subject" "RFC 3261 section 20.36.";
    SubscriptionState b"subscription-state" "Subscription-State" "RFC 6665.";
    Supported b"supported" "Supported" "RFC 3261 section 20.37.";
    Timestamp b"timestamp" "Timestamp" "RFC 3261 section 20.38.";
    Unsupported b"unsupported" "Unsupported" "RFC 3261 section 20.40.";
    UserAgent b"user-agent" "User-Agent" "RFC 3261 section 20.41.";
    Warning b"warning" "Warning" "RFC 3261 section 20.43.";
    WwwAuthenticate b"www-authenticate" "WWW-Authenticate" "RFC 3261 section 20.44.";
}

/// The longest name in the list.
const LONGEST_BYTES: usize = 20;

impl Name {
    /// Finds a name by its full or compact form, without regard to case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Name {
        if let [c] = name {
            return Name::from_compact(*c);
        }
        let mut lower = [0u8; LONGEST_BYTES];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return Name::Other;
        };
        for (to, from) in lower.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        Name::from_lower(lower)
    }

    /// The compact forms that IANA lists (RFC 3261 section 7.3.3 and later).
    fn from_compact(c: u8) -> Name {
        match c.to_ascii_lowercase() {
            b'v' => Name::Via,
            b'f' => Name::From,
            b't' => Name::To,
            b'i' => Name::CallId,
            b'm' => Name::Contact,
            b'c' => Name::ContentType,
            b'l' => Name::ContentLength,
            b'e' => Name::ContentEncoding,
            b'k' => Name::Supported,
            b's' => Name::Subject,
            b'o' => Name::Event,
            b'u' => Name::AllowEvents,
            b'r' => Name::ReferTo,
            b'b' => Name::ReferredBy,
            b'x' => Name::SessionExpires,
            b'y' => Name::Identity,
            _ => Name::Other,
        }
    }

    /// Whether a message may hold this header once only, so that a second one makes it malformed.
    #[must_use]
    pub fn is_single(self) -> bool {
        matches!(
            self,
            Name::From
                | Name::To
                | Name::CallId
                | Name::CSeq
                | Name::MaxForwards
                | Name::ContentLength
                | Name::ContentType
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_full_form_in_any_case() {
        for &name in Name::ALL {
            assert!(name.as_str().len() <= LONGEST_BYTES, "{name}");
            assert_eq!(Name::parse(name.as_str().as_bytes()), name);
            assert_eq!(Name::parse(name.as_str().to_uppercase().as_bytes()), name);
        }
        assert_eq!(Name::parse(b"X-Anything"), Name::Other);
        assert_eq!(Name::parse(b""), Name::Other);
        assert_eq!(Name::parse(&[b'a'; 300]), Name::Other);
    }

    #[test]
    fn compact_forms_are_the_same_names() {
        for (compact, name) in [(b"v", Name::Via), (b"I", Name::CallId), (b"l", Name::ContentLength)] {
            assert_eq!(Name::parse(compact), name);
        }
        assert_eq!(Name::parse(b"z"), Name::Other);
    }
}

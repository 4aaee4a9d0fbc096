//! Session descriptions (RFC 8866): read as peers send them, written as the RFC says.
//!
//! Reading tolerates what is met in the wild (bare LF, missing `s=` and `t=`, unknown lines, text that is not UTF-8) and
//! refuses what cannot be understood without guessing. Every list has a limit.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use thiserror::Error;

/// The largest description that is read.
pub const MAX_BYTES: usize = 32_768;
/// The most lines.
pub const MAX_LINES: usize = 1_024;
/// The most media sections.
pub const MAX_MEDIA: usize = 32;
/// The most formats in one media section.
pub const MAX_FORMATS: usize = 64;

/// The type that goes into `Content-Type`.
pub const CONTENT_TYPE: &str = "application/sdp";

/// Why text is no session description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Larger than [`MAX_BYTES`].
    #[error("description of {bytes} bytes, at most {MAX_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// More lines, media sections or formats than allowed.
    #[error("too many {what}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The first line is not `v=0`.
    #[error("does not start with v=0")]
    BadVersion,
    /// A line that is not `letter=value`.
    #[error("line {line} is not letter=value")]
    BadLine {
        /// Counted from 1.
        line: usize,
    },
    /// An `o=`, `c=` or `m=` line that breaks its grammar.
    #[error("bad {letter}= in line {line}")]
    BadValue {
        /// Which kind of line.
        letter: char,
        /// Counted from 1.
        line: usize,
    },
}

/// One session description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// `o=`.
    pub origin: Origin,
    /// `s=`; `-` where it says nothing.
    pub name: String,
    /// `c=` of the session, which media sections without one of their own use.
    pub connection: Option<Connection>,
    /// `t=`, the text as it is; `0 0` for calls.
    pub time: String,
    /// `a=` of the session.
    pub attributes: Attributes,
    /// `m=` sections in order.
    pub media: Vec<Media>,
}

/// `o=`: who made the description, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `-` for nobody.
    pub username: String,
    /// Names the session together with the rest of the line but the version.
    pub session_id: String,
    /// Counts up with each change.
    pub version: u64,
    /// Where the description was made.
    pub connection: Connection,
}

impl Default for Origin {
    fn default() -> Origin {
        Origin { username: "-".into(), session_id: "0".into(), version: 0, connection: Connection::default() }
    }
}

/// `IN IP4 address` or `IN IP6 address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// An address or a name, without TTL.
    pub address: String,
    /// Whether it says `IP6`.
    pub is_ip6: bool,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection { address: "0.0.0.0".into(), is_ip6: false }
    }
}

impl From<IpAddr> for Connection {
    fn from(ip: IpAddr) -> Connection {
        Connection { address: ip.to_string(), is_ip6: ip.is_ipv6() }
    }
}

impl Connection {
    /// The address, where it is one and not a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    fn parse(value: &str) -> Option<Connection> {
        let mut words = value.split_ascii_whitespace();
        if !words.next()?.eq_ignore_ascii_case("IN") {
            return None;
        }
        let kind = words.next()?;
        let is_ip6 = kind.eq_ignore_ascii_case("IP6");
        if !is_ip6 && !kind.eq_ignore_ascii_case("IP4") {
            return None;
        }
        let address = words.next()?.split('/').next().filter(|a| !a.is_empty())?;
        Some(Connection { address: address.to_owned(), is_ip6 })
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IN {} {}", if self.is_ip6 { "IP6" } else { "IP4" }, self.address)
    }
}

/// `m=` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Media {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// 0 refuses or ends the stream.
    pub port: u16,
    /// `RTP/AVP` and its like.
    pub protocol: String,
    /// Payload types for RTP, anything for others.
    pub formats: Vec<String>,
    /// `c=` of this section.
    pub connection: Option<Connection>,
    /// `a=` of this section.
    pub attributes: Attributes,
}

/// `a=` lines in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    list: Vec<(String, Option<String>)>,
}

impl Attributes {
    /// The value of the first attribute of this name: `Some("")` for one without a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The values of every attribute of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.list.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// Every attribute in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Adds `a=name`.
    pub fn flag(&mut self, name: &str) {
        self.list.push((name.to_owned(), None));
    }

    /// Adds `a=name:value`.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.list.push((name.to_owned(), Some(value.into())));
    }

    /// What an attribute says of one payload type: `value` of `a=name:payload value`.
    #[must_use]
    pub fn of_format(&self, name: &str, format: &str) -> Option<&str> {
        self.all(name).find_map(|line| {
            let (of, value) = line.split_once(' ')?;
            (of == format).then(|| value.trim())
        })
    }

    /// The direction named here, where one is.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.list.iter().find_map(|(name, _)| Direction::parse(name))
    }
}

/// Which way media flows, seen from whoever says it (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways; what holds where nothing is said.
    #[default]
    SendRecv,
    /// Sends only: the other side is on hold.
    SendOnly,
    /// Receives only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From the two halves.
    #[must_use]
    pub fn new(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Reads the attribute's name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Direction> {
        Some(match name {
            "sendrecv" => Direction::SendRecv,
            "sendonly" => Direction::SendOnly,
            "recvonly" => Direction::RecvOnly,
            "inactive" => Direction::Inactive,
            _ => return None,
        })
    }

    /// The attribute's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Whether it sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether it receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Direction) -> Direction {
        Direction::new(self.sends() && other.sends(), self.receives() && other.receives())
    }
}

impl Session {
    /// Reads a description.
    ///
    /// # Errors
    /// [`SdpError`] says what and in which line.
    pub fn parse(body: &[u8]) -> Result<Session, SdpError> {
        if body.len() > MAX_BYTES {
            return Err(SdpError::TooLarge { bytes: body.len() });
        }
        let text = String::from_utf8_lossy(body);
        let mut session = Session { name: "-".into(), time: "0 0".into(), ..Session::default() };
        let mut has_version = false;
        for (n, line) in text.split('\n').enumerate() {
            if n == MAX_LINES {
                return Err(SdpError::TooMany { what: "lines", limit: MAX_LINES });
            }
            let line = line.trim_end_matches(['\r', ' ', '\t', '\0']);
            if line.is_empty() {
                continue;
            }
            // What no line may hold (section 9, byte-string) would end it for others.
            if line.contains(['\r', '\0']) {
                return Err(SdpError::BadLine { line: n + 1 });
            }
            let (letter, value) = split_line(line).ok_or(SdpError::BadLine { line: n + 1 })?;
            if !has_version {
                if letter != 'v' || value.trim() != "0" {
                    return Err(SdpError::BadVersion);
                }
                has_version = true;
                continue;
            }
            session.take(letter, value, n + 1)?;
        }
        has_version.then_some(session).ok_or(SdpError::BadVersion)
    }

    /// The description as it goes into a body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_string())
    }

    /// The `c=` that holds for a media section.
    #[must_use]
    pub fn connection_of<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// The direction that holds for a media section, as its sender says it.
    #[must_use]
    pub fn direction_of(&self, media: &Media) -> Direction {
        media.attributes.direction().or(self.attributes.direction()).unwrap_or_default()
    }

    fn take(&mut self, letter: char, value: &str, line: usize) -> Result<(), SdpError> {
        let bad = SdpError::BadValue { letter, line };
        match letter {
            'o' => self.origin = origin(value).ok_or(bad)?,
            's' if !value.trim().is_empty() => self.name = value.to_owned(),
            't' => self.time = value.to_owned(),
            'c' => {
                let connection = Connection::parse(value).ok_or(bad)?;
                match self.media.last_mut() {
                    // Several c= lines in one section are layers of multicast: the first counts.
                    Some(media) => drop(media.connection.get_or_insert(connection)),
                    None => self.connection = Some(connection),
                }
            }
            'm' => {
                if self.media.len() == MAX_MEDIA {
                    return Err(SdpError::TooMany { what: "media sections", limit: MAX_MEDIA });
                }
                let media = media(value).ok_or(bad)?;
                if media.formats.len() > MAX_FORMATS {
                    return Err(SdpError::TooMany { what: "formats", limit: MAX_FORMATS });
                }
                self.media.push(media);
            }
            'a' => {
                let attributes = self.media.last_mut().map_or(&mut self.attributes, |m| &mut m.attributes);
                match value.split_once(':') {
                    Some((name, value)) => attributes.push(name.trim(), value.trim_start()),
                    None => attributes.flag(value.trim()),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { username, session_id, version, connection } = &self.origin;
        write!(f, "v=0\r\no={username} {session_id} {version} {connection}\r\ns={}\r\n", self.name)?;
        if let Some(connection) = &self.connection {
            write!(f, "c={connection}\r\n")?;
        }
        write!(f, "t={}\r\n", self.time)?;
        write_attributes(f, &self.attributes)?;
        for media in &self.media {
            write!(f, "m={} {} {}", media.kind, media.port, media.protocol)?;
            for format in &media.formats {
                write!(f, " {format}")?;
            }
            f.write_str("\r\n")?;
            if let Some(connection) = &media.connection {
                write!(f, "c={connection}\r\n")?;
            }
            write_attributes(f, &media.attributes)?;
        }
        Ok(())
    }
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: &Attributes) -> fmt::Result {
    for (name, value) in attributes.iter() {
        match value {
            Some(value) => write!(f, "a={name}:{value}\r\n")?,
            None => write!(f, "a={name}\r\n")?,
        }
    }
    Ok(())
}

fn split_line(line: &str) -> Option<(char, &str)> {
    let (letter, value) = line.split_once('=')?;
    let mut chars = letter.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    chars.next().is_none().then_some((letter, value))
}

fn origin(value: &str) -> Option<Origin> {
    let mut words = value.split_ascii_whitespace();
    let username = words.next()?.to_owned();
    let session_id = words.next()?.to_owned();
    let version = words.next()?;
    // Only whether it changes matters; some peers send more than 64 bits.
    let version = version
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
    let rest: Vec<&str> = words.collect();
    // Nothing is sent to this address, so a strange one does no harm.
    let connection = Connection::parse(&rest.join(" ")).unwrap_or_default();
    Some(Origin { username, session_id, version, connection })
}

fn media(value: &str) -> Option<Media> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?.to_ascii_lowercase();
    // `49170/2` names several ports; the first is the stream's.
    let port = words.next()?.split('/').next()?.parse().ok()?;
    let protocol = words.next()?.to_owned();
    let formats: Vec<String> = words.take(MAX_FORMATS + 1).map(str::to_owned).collect();
    Some(Media { kind, port, protocol, formats, connection: None, attributes: Attributes::default() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call\r\nc=IN IP4 198.51.100.1/127\r\n\
        b=AS:64\r\nt=0 0\r\na=sendonly\r\nm=audio 49170/2 RTP/AVP 0 96\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
        m=video 0 RTP/AVP 31\r\nc=IN IP6 2001:db8::2\r\na=inactive\r\n";

    #[test]
    fn reads_both_levels() {
        let session = Session::parse(OFFER.as_bytes()).unwrap();
        assert_eq!((session.origin.username.as_str(), session.origin.version), ("jdoe", 3_724_394_405));
        let [audio, video] = &session.media[..] else { unreachable!() };
        assert_eq!((audio.port, audio.formats.join(" ")), (49170, "0 96".to_owned()));
        assert_eq!(audio.attributes.of_format("rtpmap", "96"), Some("opus/48000/2"));
        assert_eq!(session.connection_of(audio).unwrap().address, "198.51.100.1");
        assert_eq!(session.connection_of(video).unwrap().ip(), "2001:db8::2".parse().ok());
        assert_eq!(
            (session.direction_of(audio), session.direction_of(video)),
            (Direction::SendOnly, Direction::Inactive)
        );
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let session = Session::parse(OFFER.as_bytes()).unwrap();
        assert_eq!(Session::parse(&session.to_bytes()).unwrap(), session);
    }

    #[test]
    fn tolerates_what_peers_send() {
        let text = b"v=0\no=x 1 99999999999999999999999 IN IP4 h\nc=IN IP4 192.0.2.1\nz=?\nm=audio 9 RTP/AVP 0\na=foo\xff\n\n\0";
        let session = Session::parse(text).unwrap();
        assert_eq!((session.name.as_str(), session.time.as_str(), session.media.len()), ("-", "0 0", 1));
    }

    #[test]
    fn refuses_what_it_would_have_to_guess() {
        for (text, error) in [
            ("", SdpError::BadVersion),
            ("o=x", SdpError::BadVersion),
            ("v=1\r\n", SdpError::BadVersion),
            ("v=0\r\nm =video 3227 RTP/AVP 31\r\n", SdpError::BadLine { line: 2 }),
            ("v=0\r\nnonsense\r\n", SdpError::BadLine { line: 2 }),
            // Found by fuzzing: what was printed from these did not read the same.
            ("v=0\r\nc=IN IP6 2001:db8::1\u{f}\0\0\0/64\r\n", SdpError::BadLine { line: 2 }),
            ("v=0\r\nm=audio 4000 RTP/AVP 0 3010\0 8\r\n", SdpError::BadLine { line: 2 }),
            ("v=0\r\nt=0 0\ra=x\r\n", SdpError::BadLine { line: 2 }),
            ("v=0\r\nc=IN IP9 x\r\n", SdpError::BadValue { letter: 'c', line: 2 }),
            ("v=0\r\nc=IN IP4\r\n", SdpError::BadValue { letter: 'c', line: 2 }),
            ("v=0\r\no=x\r\n", SdpError::BadValue { letter: 'o', line: 2 }),
            ("v=0\r\nm=audio 70000 RTP/AVP 0\r\n", SdpError::BadValue { letter: 'm', line: 2 }),
            ("v=0\r\nm=audio\r\n", SdpError::BadValue { letter: 'm', line: 2 }),
        ] {
            assert_eq!(Session::parse(text.as_bytes()).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn every_limit_holds_at_one_more() {
        let large = |bytes: usize| format!("v=0\r\ns={}", "x".repeat(bytes - 7));
        assert!(Session::parse(large(MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(Session::parse(large(MAX_BYTES + 1).as_bytes()), Err(SdpError::TooLarge { bytes: MAX_BYTES + 1 }));
        let lines = |count: usize| format!("v=0{}", "\na=x".repeat(count - 1));
        assert!(Session::parse(lines(MAX_LINES).as_bytes()).is_ok());
        assert!(matches!(
            Session::parse(lines(MAX_LINES + 1).as_bytes()),
            Err(SdpError::TooMany { what: "lines", .. })
        ));
        let media = |count: usize| format!("v=0{}", "\nm=audio 0 RTP/AVP 0".repeat(count));
        assert!(Session::parse(media(MAX_MEDIA).as_bytes()).is_ok());
        assert!(Session::parse(media(MAX_MEDIA + 1).as_bytes()).is_err());
        let formats = |count: usize| format!("v=0\nm=audio 0 RTP/AVP{}", " 0".repeat(count));
        assert!(Session::parse(formats(MAX_FORMATS).as_bytes()).is_ok());
        assert!(Session::parse(formats(MAX_FORMATS + 1).as_bytes()).is_err());
    }

    #[test]
    fn directions_mirror_and_meet() {
        assert_eq!(Direction::SendOnly.mirrored(), Direction::RecvOnly);
        assert_eq!(Direction::SendRecv.and(Direction::RecvOnly), Direction::RecvOnly);
        assert_eq!(Direction::SendOnly.and(Direction::RecvOnly), Direction::Inactive);
    }
}

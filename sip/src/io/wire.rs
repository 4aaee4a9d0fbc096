//! What lies between a connection's socket and its messages: nothing (TCP), TLS, WebSocket frames (RFC 7118), or these over
//! that. Nothing here waits: what the socket does not take or give now is `WouldBlock`.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tokio::net::TcpStream;
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, Utf8Bytes, WebSocket};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// The WebSocket subprotocol (RFC 7118 section 4.1).
const SUBPROTOCOL: &str = "sip";

/// A way to exchange messages over a connected socket.
pub(super) enum Wire {
    /// Messages follow each other in a stream.
    Stream(Box<ByteStream>),
    /// A message is a WebSocket message; the peer has not asked for the upgrade yet.
    Upgrading(Option<Box<MidHandshake<ServerHandshake<ByteStream, Upgrade>>>>),
    /// A message is a WebSocket message.
    WebSocket {
        /// Its frames.
        socket: Box<WebSocket<ByteStream>>,
        /// Something was written and is not flushed.
        unflushed: bool,
    },
}

/// What was received.
pub(super) enum Received {
    /// Bytes of the stream, appended to the buffer.
    Bytes,
    /// One whole message.
    Message(Bytes),
    /// Nothing that carries a message.
    Nothing,
    /// The peer has ended the connection.
    End,
}

/// A socket, as blocking code sees it that is told not to block.
#[derive(Debug)]
pub(super) struct Socket(pub(super) Rc<TcpStream>);

/// The bytes of a socket, in the clear or by TLS.
pub(super) enum ByteStream {
    Plain(Socket),
    Server(Box<StreamOwned<ServerConnection, Socket>>),
    Client(Box<StreamOwned<ClientConnection, Socket>>),
}

/// Decides on a request to become a WebSocket.
pub(super) struct Upgrade {
    origins: Arc<[String]>,
}

impl ByteStream {
    /// The server's side of TLS.
    pub(super) fn server(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::Server(Box::new(StreamOwned::new(connection, socket))))
    }

    /// The client's side of TLS, to a peer of this name.
    pub(super) fn client(socket: Socket, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::Client(Box::new(StreamOwned::new(connection, socket))))
    }

    fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Server(tls) => tls.conn.wants_write(),
            Self::Client(tls) => tls.conn.wants_write(),
        }
    }

    fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Plain(_) => None,
            Self::Server(tls) => tls.conn.peer_certificates(),
            Self::Client(tls) => tls.conn.peer_certificates(),
        }
    }

    /// Appends what has come; whether that was anything.
    fn read_into(&mut self, buffer: &mut BytesMut) -> io::Result<bool> {
        if let Self::Plain(Socket(stream)) = self {
            buffer.reserve(READ_BYTES);
            return stream.try_read_buf(buffer).map(|count| count > 0);
        }
        let before = buffer.len();
        buffer.resize(before + READ_BYTES, 0);
        let read = match buffer.get_mut(before..) {
            Some(room) => self.read(room),
            None => Ok(0),
        };
        buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
        read.map(|count| count > 0)
    }
}

impl Wire {
    /// Messages in a stream.
    pub(super) fn stream(bytes: ByteStream) -> Self {
        Self::Stream(Box::new(bytes))
    }

    /// Messages in WebSocket frames, once the peer has asked for them. `origins`: the pages that may; empty lets all.
    pub(super) fn web_socket(bytes: ByteStream, origins: Arc<[String]>, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let handshake = ServerHandshake::start(bytes, Upgrade { origins }, Some(config));
        Self::Upgrading(Some(Box::new(handshake)))
    }

    /// Writes what it can of a message and takes that off its front. `WouldBlock` where the rest has to wait.
    pub(super) fn write(&mut self, message: &mut Bytes) -> io::Result<()> {
        match self {
            Self::Stream(bytes) => match bytes.write(message)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                written => {
                    message.advance(written);
                    Ok(())
                }
            },
            Self::Upgrading(_) => Err(io::ErrorKind::WouldBlock.into()),
            Self::WebSocket { socket, unflushed } => {
                let whole = std::mem::take(message);
                let framed = match Utf8Bytes::try_from(whole.clone()) {
                    Ok(text) => Message::Text(text),
                    Err(_) => Message::Binary(whole),
                };
                *unflushed = true;
                match socket.write(framed) {
                    Ok(()) => Ok(()),
                    // It is queued all the same.
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(failure(error)),
                }
            }
        }
    }

    /// Gives to the socket what waits between it and the messages. `WouldBlock` where some still does.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(bytes) if bytes.wants_write() => bytes.flush(),
            Self::Stream(_) | Self::Upgrading(_) => Ok(()),
            Self::WebSocket { socket, unflushed } => {
                if *unflushed || socket.get_ref().wants_write() {
                    socket.flush().map_err(failure)?;
                    *unflushed = false;
                }
                Ok(())
            }
        }
    }

    /// Whether something waits between the socket and the messages.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Stream(bytes) => bytes.wants_write(),
            Self::Upgrading(handshake) => {
                handshake.as_ref().is_some_and(|handshake| handshake.get_ref().get_ref().wants_write())
            }
            Self::WebSocket { socket, unflushed } => *unflushed || socket.get_ref().wants_write(),
        }
    }

    /// Takes what has come. Bytes of a stream are appended to `buffer`.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        match self {
            Self::Stream(bytes) => Ok(if bytes.read_into(buffer)? { Received::Bytes } else { Received::End }),
            Self::Upgrading(handshake) => {
                let Some(mid) = handshake.take() else { return Ok(Received::End) };
                match mid.handshake() {
                    Ok(socket) => {
                        *self = Self::WebSocket { socket: Box::new(socket), unflushed: false };
                        Ok(Received::Nothing)
                    }
                    Err(HandshakeError::Interrupted(mid)) => {
                        *handshake = Some(Box::new(mid));
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    Err(HandshakeError::Failure(error)) => Err(failure(error)),
                }
            }
            Self::WebSocket { socket, unflushed } => match socket.read() {
                Ok(Message::Text(text)) => Ok(Received::Message(text.into())),
                Ok(Message::Binary(bytes)) => Ok(Received::Message(bytes)),
                Ok(Message::Close(_)) => {
                    *unflushed = true;
                    Ok(Received::Nothing)
                }
                // The answer to a ping is sent with the next read or flush.
                Ok(_) => {
                    *unflushed = true;
                    Ok(Received::Nothing)
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(Received::End),
                Err(error) => Err(failure(error)),
            },
        }
    }

    /// The certificates that the peer has shown, its own first.
    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Stream(bytes) => bytes.peer_certificates(),
            Self::Upgrading(handshake) => handshake.as_ref()?.get_ref().get_ref().peer_certificates(),
            Self::WebSocket { socket, .. } => socket.get_ref().peer_certificates(),
        }
    }
}

fn failure(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl Callback for Upgrade {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let refuse = |code: StatusCode, why: &str| {
            let mut refusal = ErrorResponse::new(Some(why.to_owned()));
            *refusal.status_mut() = code;
            refusal
        };
        let header = |name: &str| request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        let offers_sip = header("Sec-WebSocket-Protocol")
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim().eq_ignore_ascii_case(SUBPROTOCOL));
        if !offers_sip {
            return Err(refuse(StatusCode::BAD_REQUEST, "offer the WebSocket subprotocol sip (RFC 7118)\n"));
        }
        let is_let = |origin: &str| self.origins.iter().any(|one| one.eq_ignore_ascii_case(origin));
        if !self.origins.is_empty() && !header("Origin").any(is_let) {
            return Err(refuse(StatusCode::FORBIDDEN, "this page may not call from a browser: see sip.origins\n"));
        }
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Server(tls) => tls.read(buffer),
            Self::Client(tls) => tls.read(buffer),
        }
    }
}

impl Write for ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Server(tls) => tls.write(bytes),
            Self::Client(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Server(tls) => tls.flush(),
            Self::Client(tls) => tls.flush(),
        }
    }
}

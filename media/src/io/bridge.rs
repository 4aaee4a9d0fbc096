//! A TURN server that is reached by TCP or TLS: a task that stands between its stream and the leg's socket, as if it were the server by UDP. So
//! what a media worker does is the same for all of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::socket::Socket;

/// A server that has not taken the connection within this is given up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Frames beyond this end the connection: none of ours is as long.
const FRAME_BYTES: usize = 4_096;

/// How a TURN server is reached.
#[derive(Debug, Clone)]
pub enum TurnOver {
    /// By datagrams.
    Udp,
    /// By a stream.
    Tcp,
    /// By a protected stream: whom we believe, and the name that its certificate has to show.
    Tls(Arc<ClientConfig>, ServerName<'static>),
}

/// The leg's way to one server; ends when it is dropped, and the allocation with it.
#[derive(Debug)]
pub(super) struct Bridge {
    addr: SocketAddr,
    task: AbortHandle,
    fault: Arc<Mutex<Option<String>>>,
}

impl Bridge {
    /// Begins to connect; what the leg sends meanwhile waits.
    pub(super) fn start(leg: &Socket, server: SocketAddr, over: &TurnOver) -> io::Result<Bridge> {
        let leg = leg.local();
        let here = match leg.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            bound => bound,
        };
        let socket = std::net::UdpSocket::bind((here, 0))?;
        // Nobody else's datagrams get in.
        socket.connect(SocketAddr::new(here, leg.port()))?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket)?;
        let fault = Arc::new(Mutex::new(None));
        let (told, over) = (Arc::clone(&fault), over.clone());
        let task = tokio::spawn(async move {
            let why = run(socket, server, over).await.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
        });
        Ok(Bridge { addr, task: task.abort_handle(), fault })
    }

    /// Where the leg finds the server.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Why it has ended, where it has.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(socket: UdpSocket, server: SocketAddr, over: TurnOver) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let connected = async {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    let stream = tokio::time::timeout(CONNECT_WITHIN, connected).await.map_err(late)??;
    match over {
        TurnOver::Tls(config, name) => {
            let shaken = TlsConnector::from(config).connect(name, stream);
            carry(socket, tokio::time::timeout(CONNECT_WITHIN, shaken).await.map_err(late)??).await
        }
        TurnOver::Udp | TurnOver::Tcp => carry(socket, stream).await,
    }
}

/// Carries frames both ways until one end is gone.
async fn carry(socket: UdpSocket, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let to_server = async {
        let mut frame = [0_u8; FRAME_BYTES];
        loop {
            let len = match socket.recv(frame.get_mut(..FRAME_BYTES - 4).unwrap_or_default()).await {
                Ok(len) => len,
                // The leg's socket rests.
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(fault) => return Err(fault),
            };
            // ChannelData is padded on a stream (RFC 8656 section 12.5); STUN has no need to be.
            let padded = len.next_multiple_of(4);
            frame.get_mut(len..padded).unwrap_or_default().fill(0);
            writer.write_all(frame.get(..padded).unwrap_or_default()).await?;
            writer.flush().await?;
        }
    };
    let to_leg = async {
        let mut frame = [0_u8; FRAME_BYTES];
        loop {
            let (header, _) = frame.split_at_mut(4);
            reader.read_exact(header).await?;
            let length = frame_bytes(frame.first_chunk::<4>().unwrap_or(&[0; 4]))?;
            reader.read_exact(frame.get_mut(4..length).unwrap_or_default()).await?;
            // As good as lost where the leg is not there.
            let _ = socket.send(frame.get(..length).unwrap_or_default()).await;
        }
    };
    tokio::select! {
        end = to_server => end,
        end = to_leg => end,
    }
}

/// How long a frame on the stream is that begins so: STUN, or ChannelData with its padding.
fn frame_bytes(header: &[u8; 4]) -> io::Result<usize> {
    let [first, _, l0, l1] = *header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let whole = match first {
        0..=63 => 20 + length,
        64..=79 => 4 + length.next_multiple_of(4),
        _ => 0,
    };
    if whole == 0 || whole > FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what the TURN server sends is no frame of its protocol",
        ));
    }
    Ok(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_on_a_stream_are_as_long_as_they_say_and_nothing_else_is_read() {
        assert_eq!(frame_bytes(&[1, 1, 0, 12]).unwrap(), 32);
        assert_eq!(frame_bytes(&[0x40, 0, 0, 5]).unwrap(), 12);
        assert_eq!(frame_bytes(&[0x40, 0, 0, 0]).unwrap(), 4);
        assert_eq!(frame_bytes(&[0x40, 0, 0x0f, 0xfc]).unwrap(), FRAME_BYTES);
        for bad in [[0x40, 0, 0x0f, 0xfd], [0, 1, 0xff, 0xff], [0x80, 0, 0, 4], *b"HTTP"] {
            assert!(frame_bytes(&bad).is_err(), "{bad:?}");
        }
    }
}

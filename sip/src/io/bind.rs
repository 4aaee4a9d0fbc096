//! Binding sockets, and saying what is wrong where that fails.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use thiserror::Error;

use super::resolve::ResolveError;
use super::tls::TlsError;
use super::{Listen, StackConfig, sys};
use crate::endpoint::Transport;

/// Why a stack cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else has the port.
    #[error("port {} is in use by {holder}: stop it, or set sip.listen to another port than {listen}", listen.address.port())]
    InUse {
        /// What was asked for.
        listen: Listen,
        /// The program that has it, as far as it can be found out.
        holder: String,
    },
    /// No interface of this machine has the address.
    #[error("this machine has no address {}: set sip.listen to one of its own, or to 0.0.0.0 for all of them", listen.address.ip())]
    NotOurs {
        /// What was asked for.
        listen: Listen,
    },
    /// Ports below 1024 are for privileged programs.
    #[error("not allowed to listen on {listen}: run with CAP_NET_BIND_SERVICE, or set sip.listen to a port above 1023")]
    NotAllowed {
        /// What was asked for.
        listen: Listen,
    },
    /// Names cannot be looked up.
    #[error(transparent)]
    Resolver(ResolveError),
    /// TLS cannot be had.
    #[error("cannot use TLS: {0}")]
    Tls(#[from] TlsError),
    /// Anything else.
    #[error("cannot listen on {listen}: {source}")]
    Other {
        /// What was asked for.
        listen: Listen,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system gives no entropy.
    #[error("cannot get entropy: {0}")]
    Entropy(io::Error),
    /// The thread cannot be started.
    #[error("cannot start the SIP thread: {0}")]
    Thread(io::Error),
}

/// Bound sockets, not yet in a runtime.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) udp: Vec<(UdpSocket, SocketAddr)>,
    /// All that takes connections.
    pub(super) tcp: Vec<(TcpListener, Listen)>,
}

impl Sockets {
    pub(super) fn bind(config: &StackConfig) -> Result<Self, BindError> {
        let mut sockets = Self::default();
        for listen in &config.listen {
            sockets.bind_one(*listen, config.limits.udp_receive_bytes).map_err(|error| explain(*listen, error))?;
        }
        Ok(sockets)
    }

    /// What is listened on, with the ports that port 0 became.
    pub(super) fn local(&self) -> Vec<Listen> {
        let udp = self.udp.iter().map(|(_, address)| (Transport::Udp, *address));
        let udp = udp.map(|(transport, address)| Listen { transport, address });
        udp.chain(self.tcp.iter().map(|(_, listen)| *listen)).collect()
    }

    fn bind_one(&mut self, listen: Listen, receive_bytes: usize) -> io::Result<()> {
        match listen.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(listen.address)?;
                socket.set_nonblocking(true)?;
                // A smaller buffer than asked for costs repeats under load, no more.
                let _ = sys::set_receive_buffer(socket.as_raw_fd(), receive_bytes);
                if listen.address.ip().is_unspecified() {
                    sys::ask_for_destination(socket.as_raw_fd(), listen.address.is_ipv6())?;
                }
                let address = socket.local_addr()?;
                self.udp.push((socket, address));
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let listener = TcpListener::bind(listen.address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                self.tcp.push((listener, Listen { address, ..listen }));
            }
        }
        Ok(())
    }
}

fn explain(listen: Listen, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { listen, holder: holder(listen) },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { listen },
        io::ErrorKind::PermissionDenied => BindError::NotAllowed { listen },
        _ => BindError::Other { listen, source },
    }
}

/// Who has a port, by /proc: "kamailio (process 4711)", as far as our rights let us see.
fn holder(listen: Listen) -> String {
    find_holder(listen).unwrap_or_else(|| "another program".to_owned())
}

fn find_holder(listen: Listen) -> Option<String> {
    let inodes = inodes(listen);
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(id) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has_it = files.flatten().any(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
        });
        if has_it {
            let program = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", program.trim()));
        }
    }
    None
}

/// The sockets at a port, as links in /proc/PID/fd name them.
fn inodes(listen: Listen) -> Vec<String> {
    let tables = match listen.transport {
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        _ => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let port = format!(":{:04X}", listen.address.port());
    let tables = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok());
    tables
        .flat_map(|table| {
            let sockets = table.lines().filter_map(|line| {
                let mut columns = line.split_whitespace();
                let local = columns.nth(1)?;
                let inode = columns.nth(7)?;
                local.ends_with(&port).then(|| format!("socket:[{inode}]"))
            });
            sockets.collect::<Vec<_>>()
        })
        .collect()
}

//! A server with OpenAI's chat completions that misbehaves in one way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What it does with each request.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// Takes it and says nothing.
    NeverAnswers,
    /// Streams these pieces and closes the connection in the middle.
    CutsAfter(&'static [&'static str]),
    /// Streams something that is no JSON.
    WrongJson,
    /// Answers with a web page.
    Html,
    /// Answers 500.
    Refuses,
}

/// The server; ends with the test.
pub struct MisbehavingModel {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl MisbehavingModel {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        std::thread::spawn(move || {
            // Connections that are never answered stay open until the server ends.
            let open = Mutex::new(Vec::new());
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                if read_request(&stream).is_some() {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = answer(&mut stream, manner);
                }
                if matches!(manner, Manner::NeverAnswers) {
                    open.lock().unwrap().push(stream);
                }
            }
        });
        Self { address, requests, stop }
    }

    /// Its address as an agent's `base_url`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for MisbehavingModel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads one request to the end of its body.
fn read_request(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut size_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(size) = line.strip_prefix("content-length:") {
            size_bytes = size.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; size_bytes]).ok()
}

fn answer(stream: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    match manner {
        Manner::NeverAnswers => Ok(()),
        Manner::CutsAfter(pieces) => {
            write!(stream, "{STREAM}")?;
            for piece in pieces {
                let delta = serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] });
                chunk(stream, &format!("data: {delta}\n\n"))?;
            }
            stream.flush()
        }
        Manner::WrongJson => {
            write!(stream, "{STREAM}")?;
            chunk(stream, "data: {\"choices\": [{\"delta\": oh dear\n\n")?;
            write!(stream, "0\r\n\r\n")
        }
        Manner::Html => {
            let page = "<html><body>Welcome to nginx!</body></html>";
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}", page.len())
        }
        Manner::Refuses => {
            write!(stream, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbroken")
        }
    }
}

fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

//! RFC 4475's notation for messages that plain text cannot show (its section 2).

/// Turns a case's text into the bytes on the wire.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut joining = false;
    for line in text.lines() {
        match line {
            "<allOneLine>" => joining = true,
            "</allOneLine>" => {
                joining = false;
                wire.extend_from_slice(b"\r\n");
            }
            line => {
                wire.extend_from_slice(line.as_bytes());
                if !joining {
                    wire.extend_from_slice(b"\r\n");
                }
            }
        }
    }
    repeats(&hex(&wire))
}

/// Resolves `<hex>0D 0A</hex>`.
fn hex(text: &[u8]) -> Vec<u8> {
    replace(text, b"<hex>", b"</hex>", |inside| {
        let digits: Vec<u8> = inside.iter().copied().filter(u8::is_ascii_hexdigit).collect();
        let text = String::from_utf8(digits).unwrap();
        (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
    })
}

/// Resolves `<repeat count=3>abc</repeat>`.
fn repeats(text: &[u8]) -> Vec<u8> {
    replace(text, b"<repeat count=", b"</repeat>", |inside| {
        let close = inside.iter().position(|&b| b == b'>').unwrap();
        let count: usize = std::str::from_utf8(&inside[..close]).unwrap().parse().unwrap();
        inside[close + 1..].repeat(count)
    })
}

fn replace(text: &[u8], open: &[u8], close: &[u8], with: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let find = |from: usize, what: &[u8]| text[from..].windows(what.len()).position(|w| w == what).map(|at| from + at);
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(start) = find(at, open) {
        out.extend_from_slice(&text[at..start]);
        let end = find(start, close).unwrap();
        out.extend(with(&text[start + open.len()..end]));
        at = end + close.len();
    }
    out.extend_from_slice(&text[at..]);
    out
}

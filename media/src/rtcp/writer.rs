//! Printing a compound RTCP packet into the caller's buffer (RFC 3550 sections 6.4 to 6.6).

use super::{BYE, CNAME, HEADER_BYTES, RR, ReportBlock, RtcpError, SDES, SR, SenderInfo, VoipMetrics, XR};
use crate::rtp::VERSION;

const MAX_COUNT: usize = 31;
const MAX_TEXT_BYTES: usize = 255;

/// Puts packets one behind the other into a buffer. What it returns an error for, it has not begun to print.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    size_bytes: usize,
}

impl<'a> Writer<'a> {
    /// Prints from the front of `out`.
    pub fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, size_bytes: 0 }
    }

    /// What was printed so far, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// A sender report with up to 31 blocks.
    pub fn sender_report(&mut self, ssrc: u32, info: &SenderInfo, reports: &[ReportBlock]) -> Result<(), RtcpError> {
        let count = count_of("report blocks", reports.len())?;
        self.begin(SR, count, 24 + reports.len() * 24)?;
        self.put(&ssrc.to_be_bytes());
        self.put(&info.ntp.0.to_be_bytes());
        for word in [info.timestamp.0, info.packets, info.bytes] {
            self.put(&word.to_be_bytes());
        }
        self.put_reports(reports);
        Ok(())
    }

    /// A receiver report with up to 31 blocks.
    pub fn receiver_report(&mut self, ssrc: u32, reports: &[ReportBlock]) -> Result<(), RtcpError> {
        let count = count_of("report blocks", reports.len())?;
        self.begin(RR, count, 4 + reports.len() * 24)?;
        self.put(&ssrc.to_be_bytes());
        self.put_reports(reports);
        Ok(())
    }

    /// A source description that holds the canonical name, of up to 255 bytes.
    pub fn cname(&mut self, ssrc: u32, cname: &str) -> Result<(), RtcpError> {
        let text_bytes = text_size("CNAME", cname.as_bytes())?;
        let padding_bytes = 4 - (2 + cname.len()) % 4;
        self.begin(SDES, 1, 4 + 2 + cname.len() + padding_bytes)?;
        self.put(&ssrc.to_be_bytes());
        self.put(&[CNAME, text_bytes]);
        self.put(cname.as_bytes());
        self.put(&[0; 4][..padding_bytes.min(4)]);
        Ok(())
    }

    /// An extended report with the VoIP metrics of one source.
    pub fn voip_metrics(&mut self, ssrc: u32, metrics: &VoipMetrics) -> Result<(), RtcpError> {
        let block = metrics.to_bytes();
        self.begin(XR, 0, 4 + block.len())?;
        self.put(&ssrc.to_be_bytes());
        self.put(&block);
        Ok(())
    }

    /// A goodbye of one source; an empty reason is left out.
    pub fn goodbye(&mut self, ssrc: u32, reason: &str) -> Result<(), RtcpError> {
        let text_bytes = text_size("BYE reason", reason.as_bytes())?;
        let reason_bytes = if reason.is_empty() { 0 } else { (1 + reason.len()).next_multiple_of(4) };
        self.begin(BYE, 1, 4 + reason_bytes)?;
        self.put(&ssrc.to_be_bytes());
        if !reason.is_empty() {
            self.put(&[text_bytes]);
            self.put(reason.as_bytes());
            self.put(&[0; 3][..(reason_bytes - 1 - reason.len()).min(3)]);
        }
        Ok(())
    }

    fn put_reports(&mut self, reports: &[ReportBlock]) {
        for block in reports {
            self.put(&block.to_bytes());
        }
    }

    /// Prints a header for a body of `body_bytes`, a multiple of four, after checking that both fit.
    fn begin(&mut self, kind: u8, count: u8, body_bytes: usize) -> Result<(), RtcpError> {
        let needed = HEADER_BYTES + body_bytes;
        let left = self.out.len() - self.size_bytes;
        if needed > left {
            return Err(RtcpError::NoRoom { needed, size_bytes: left });
        }
        let [l0, l1] = ((body_bytes / 4) as u16).to_be_bytes();
        self.put(&[VERSION << 6 | count, kind, l0, l1]);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.size_bytes + bytes.len();
        if let Some(place) = self.out.get_mut(self.size_bytes..end) {
            place.copy_from_slice(bytes);
            self.size_bytes = end;
        }
    }
}

fn count_of(what: &'static str, size: usize) -> Result<u8, RtcpError> {
    if size > MAX_COUNT {
        return Err(RtcpError::TooLong { what, size, limit: MAX_COUNT });
    }
    Ok(size as u8)
}

fn text_size(what: &'static str, text: &[u8]) -> Result<u8, RtcpError> {
    u8::try_from(text.len()).map_err(|_| RtcpError::TooLong { what, size: text.len(), limit: MAX_TEXT_BYTES })
}

//! Frames, watched as they pass: those to the client for the ones by which it is told that it broke the protocol, those of the client for
//! what hyper has to hold of them. Both are dealt with below every request, and nobody else here learns of them.

use crate::metrics::Http2Error;

/// RFC 9113 §4.1: length, type, flags, stream.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// RFC 9113 §3.4.
const PREFACE: usize = 24;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Where in a frame what has been written so far ends.
#[derive(Default)]
pub struct FrameWatch {
    /// Bytes of the present frame that do not matter.
    skip: usize,
    /// The head, and the payload as far as its error code.
    gathered: [u8; HEAD + 8],
    length: usize,
}

impl FrameWatch {
    /// Looks at bytes that were written.
    pub fn see(&mut self, mut bytes: &[u8], mut told: impl FnMut(Http2Error)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (self.wanted() - self.length).min(bytes.len());
            self.gathered[self.length..self.length + count].copy_from_slice(&bytes[..count]);
            self.length += count;
            bytes = &bytes[count..];
            if self.length < self.wanted() {
                continue;
            }
            if self.length > HEAD {
                let code = &self.gathered[self.length - 4..self.length];
                let code = code.iter().fold(0, |code: u32, byte| code << 8 | u32::from(*byte));
                if let Some(error) = error(code) {
                    told(error);
                }
            }
            self.skip = (HEAD + payload(&self.gathered)).saturating_sub(self.length);
            self.length = 0;
        }
    }

    /// As far as the present frame has to be read.
    fn wanted(&self) -> usize {
        match self.gathered[3] {
            _ if self.length < HEAD => HEAD,
            RST_STREAM => HEAD + 4,
            GOAWAY => HEAD + 8,
            _ => HEAD,
        }
    }
}

/// Bytes behind a frame's head.
fn payload(head: &[u8]) -> usize {
    head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// How much hyper holds of what a client has not sent the rest of.
pub struct HeadWatch {
    preface: usize,
    head: [u8; HEAD],
    /// Of the present frame.
    seen: usize,
    /// A request's head has begun with a frame, and the next continues it.
    is_open: bool,
    /// Bytes of a head's fields at the most, which are held unpacked.
    limit: usize,
}

impl HeadWatch {
    pub fn new(limit: usize) -> Self {
        Self { preface: PREFACE, head: [0; HEAD], seen: 0, is_open: false, limit }
    }

    /// Looks at bytes that were read, and says how many are held after them.
    pub fn see(&mut self, mut bytes: &[u8]) -> usize {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let end = if self.seen < HEAD { HEAD } else { HEAD + payload(&self.head) };
            let count = (end - self.seen).min(bytes.len());
            if self.seen < HEAD {
                self.head[self.seen..self.seen + count].copy_from_slice(&bytes[..count]);
            }
            self.seen += count;
            bytes = &bytes[count..];
            if self.seen >= HEAD && self.seen == HEAD + payload(&self.head) {
                let [_, _, _, kind, flags, ..] = self.head;
                self.is_open = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
                self.seen = 0;
            }
        }
        self.seen + if self.is_open { self.limit } else { 0 }
    }
}

/// RFC 9113 §7. None of the client's is: no error, one of ours or the app's, and an answer that is not wanted any more.
fn error(code: u32) -> Option<Http2Error> {
    Some(match code {
        0x0 | 0x2 | 0x8 => return None,
        0x1 => Http2Error::Protocol,
        0x3 => Http2Error::FlowControl,
        0x5 => Http2Error::StreamClosed,
        0x6 => Http2Error::FrameSize,
        0x7 => Http2Error::RefusedStream,
        0x9 => Http2Error::Compression,
        0xb => Http2Error::EnhanceYourCalm,
        _ => Http2Error::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame =
            vec![0, u8::try_from(payload.len() >> 8).unwrap(), u8::try_from(payload.len() & 255).unwrap(), kind, 0];
        frame.extend([0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn what_is_held_is_what_is_not_whole_however_the_bytes_are_cut() {
        let mut flagged = frame(1, &[7; 300]);
        flagged[4] = END_HEADERS;
        let mut last = frame(9, &[7; 5]);
        last[4] = END_HEADERS | 1;
        let preface = vec![b'P'; PREFACE];
        let whole = [preface, frame(4, &[]), frame(0, &[1; 70]), flagged, frame(1, &[1; 20]), frame(9, &[])].concat();
        for size in [1, 2, 3, 8, 9, 10, 13, 100, whole.len()] {
            let mut watch = HeadWatch::new(1000);
            let held = whole.chunks(size).map(|piece| watch.see(piece)).last();
            assert_eq!(held, Some(1000), "{size}");
            assert_eq!(watch.see(&last[..12]), 1012, "{size}");
            assert_eq!(watch.see(&last[12..]), 0, "{size}");
            assert_eq!(watch.see(&frame(0, &[1; 50])[..40]), 40, "{size}");
        }
    }

    #[test]
    fn errors_are_seen_however_the_bytes_are_cut() {
        let frames = [
            frame(4, &[]),
            // Data that looks like frames.
            frame(0, &frame(3, &[0, 0, 0, 1]).repeat(100)),
            frame(3, &[0, 0, 0, 1]),
            frame(1, &[1; 20]),
            frame(3, &[0, 0, 0, 8]),
            frame(7, &[0, 0, 0, 1, 0, 0, 0, 11, b'w', b'h', b'y']),
            frame(7, &[0; 8]),
            frame(3, &[0, 0, 1, 0]),
        ]
        .concat();
        for size in [1, 2, 3, 7, 9, 10, 13, 100, frames.len()] {
            let (mut watch, mut seen) = (FrameWatch::default(), Vec::new());
            for piece in frames.chunks(size) {
                watch.see(piece, |error| seen.push(error));
            }
            assert_eq!(seen, [Http2Error::Protocol, Http2Error::EnhanceYourCalm, Http2Error::Other], "{size}");
        }
    }
}

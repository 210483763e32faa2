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

/// As much of a frame as anybody here looks at: GOAWAY as far as its error code.
const LOOKED_AT: usize = HEAD + 8;

/// Cuts what passes into frames, however it comes.
#[derive(Default)]
struct Frames {
    start: [u8; LOOKED_AT],
    /// Bytes of the present frame.
    seen: usize,
}

impl Frames {
    /// `ended`: what is to be looked at of a frame that is whole, padded with zeros.
    fn see(&mut self, mut bytes: &[u8], mut ended: impl FnMut(&[u8; LOOKED_AT])) {
        while !bytes.is_empty() {
            let end = if self.seen < HEAD { HEAD } else { self.length() };
            let count = (end - self.seen).min(bytes.len());
            if let Some(room) = self.start.get_mut(self.seen..) {
                let looked_at = count.min(room.len());
                room[..looked_at].copy_from_slice(&bytes[..looked_at]);
            }
            self.seen += count;
            bytes = &bytes[count..];
            if self.seen >= HEAD && self.seen == self.length() {
                ended(&self.start);
                *self = Self::default();
            }
        }
    }

    fn length(&self) -> usize {
        self.start[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)) + HEAD
    }
}

/// What a client is told of its errors.
#[derive(Default)]
pub struct FrameWatch(Frames);

impl FrameWatch {
    /// Looks at bytes that were written.
    pub fn see(&mut self, bytes: &[u8], mut told: impl FnMut(Http2Error)) {
        self.0.see(bytes, |start| {
            let code = match start[3] {
                RST_STREAM => &start[HEAD..HEAD + 4],
                GOAWAY => &start[HEAD + 4..],
                _ => return,
            };
            let code = code.iter().fold(0, |code: u32, byte| code << 8 | u32::from(*byte));
            if let Some(error) = error(code) {
                told(error);
            }
        });
    }
}

/// How much hyper holds of what a client has not sent the rest of.
pub struct HeadWatch {
    preface: usize,
    frames: Frames,
    /// A request's head has begun with a frame, and the next continues it.
    is_open: bool,
    /// Bytes of a head's fields at the most, which are held unpacked.
    limit: usize,
}

impl HeadWatch {
    pub fn new(limit: usize) -> Self {
        Self { preface: PREFACE, frames: Frames::default(), is_open: false, limit }
    }

    /// Looks at bytes that were read, and says how many are held after them.
    pub fn see(&mut self, bytes: &[u8]) -> usize {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        self.frames.see(&bytes[preface..], |start| {
            let [_, _, _, kind, flags, ..] = *start;
            self.is_open = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        });
        self.frames.seen + if self.is_open { self.limit } else { 0 }
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

//! Frames on their way to the client, watched for those by which it is told that it broke the protocol: such errors are dealt with below
//! every request, and nobody else here learns of them.

use crate::metrics::Http2Error;

/// RFC 9113 §4.1: length, type, flags, stream.
const HEAD: usize = 9;
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
            let [high, middle, low, ..] = self.gathered;
            let payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.skip = (HEAD + payload).saturating_sub(self.length);
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

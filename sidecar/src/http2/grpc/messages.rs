//! The lengths of a call's messages, read as they pass: each is announced by five bytes (gRPC over HTTP/2, "Length-Prefixed-Message").

/// A message that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

pub struct MessageLengths {
    limit: u64,
    /// Flag and length of the next message, as far as they came.
    prefix: [u8; PREFIX],
    known: usize,
    /// Bytes of the present message that are still to come.
    left: usize,
}

const PREFIX: usize = 5;

impl MessageLengths {
    pub fn new(limit: u64) -> Self {
        Self { limit, prefix: [0; PREFIX], known: 0, left: 0 }
    }

    pub fn look_at(&mut self, mut data: &[u8]) -> Result<(), TooLong> {
        while !data.is_empty() {
            let skipped = self.left.min(data.len());
            self.left -= skipped;
            data = &data[skipped..];
            let taken = (PREFIX - self.known).min(data.len());
            self.prefix[self.known..self.known + taken].copy_from_slice(&data[..taken]);
            self.known += taken;
            data = &data[taken..];
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                if u64::from(length) > self.limit {
                    return Err(TooLong);
                }
                self.left = length as usize;
                self.known = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xff, length as usize));
        bytes
    }

    #[test]
    fn each_message_counts_for_itself_however_it_is_cut() {
        let call = [message(10), message(0), message(9), message(10)].concat();
        for piece in 1..=call.len() {
            let mut lengths = MessageLengths::new(10);
            assert!(call.chunks(piece).all(|data| lengths.look_at(data).is_ok()), "{piece}");
            let call = [&call[..], &message(11)[..5]].concat();
            let mut lengths = MessageLengths::new(10);
            assert!(call.chunks(piece).any(|data| lengths.look_at(data).is_err()), "{piece}");
        }
    }

    #[test]
    fn what_is_announced_is_refused_before_it_comes() {
        assert_eq!(MessageLengths::new(10).look_at(&[0, 0, 0, 0, 11]), Err(TooLong));
        assert_eq!(MessageLengths::new(10).look_at(&[1, 255, 255, 255, 255, 0]), Err(TooLong));
        assert_eq!(MessageLengths::new(0).look_at(&[0, 0, 0, 0, 0]), Ok(()));
        assert_eq!(MessageLengths::new(10).look_at(&[0, 0, 0, 1]), Ok(()), "nobody knows yet");
    }
}

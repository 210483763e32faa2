//! Bytes read and not yet consumed, in memory that connections hand on to each other.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::{io, pin::Pin};

use tokio::io::{AsyncRead, ReadBuf};

/// Holds most heads, and a head with a small body at once.
pub const SMALL: usize = 16 << 10;
/// For bodies: fewer system calls, and still inside the second-level cache.
pub const LARGE: usize = 128 << 10;

#[derive(Default)]
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    /// Much is to come: memory is borrowed by the [`LARGE`] piece.
    large: bool,
}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { data: vec![0; capacity].into_boxed_slice(), start: 0, end: 0, large: false }
    }

    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Appends what there is room for, and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        self.make_room();
        let count = bytes.len().min(self.data.len() - self.end);
        self.data[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// No room is left, even after what was consumed has been given back.
    pub fn is_full(&self) -> bool {
        self.len() == self.data.len() && self.capacity() > 0
    }

    /// Moves what it holds to larger memory.
    pub fn grow(&mut self, capacity: usize) {
        let mut larger = Self::with_capacity(capacity.max(self.len()));
        larger.append(self.filled());
        *self = larger;
    }

    fn make_room(&mut self) {
        if self.start > 0 && self.end == self.data.len() {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Like [`Buffer::poll_fill`], in memory that is borrowed only once there is something to read: whoever waits holds none.
    pub fn poll_fill_from_pool<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        pool: &Buffers,
    ) -> Poll<io::Result<usize>> {
        let borrowed = self.capacity() == 0;
        if borrowed {
            self.data = if self.large { pool.large() } else { pool.small() }.data;
        }
        let polled = self.poll_fill(cx, from);
        if borrowed && !matches!(polled, Poll::Ready(Ok(count)) if count > 0) {
            self.release(pool);
        }
        polled
    }

    /// Gives the memory back if nothing is in it.
    pub fn release(&mut self, pool: &Buffers) {
        if self.is_empty() && self.capacity() > 0 {
            pool.give_back(Self { data: std::mem::take(&mut self.data), ..Self::default() });
        }
    }

    /// From now on there is much to come.
    pub fn expect_much(&mut self, pool: &Buffers) {
        self.large = true;
        if self.capacity() == SMALL {
            let mut larger = pool.large();
            larger.append(self.filled());
            larger.large = true;
            pool.give_back(std::mem::replace(self, larger));
        }
    }

    /// 0: the other end has finished, or there is no room.
    pub fn poll_fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        match Pin::new(from).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
                let count = room.filled().len();
                self.end += count;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Memory of connections that are idle now, kept for those that are not.
#[derive(Default)]
pub struct Buffers {
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    texts: RefCell<Vec<Vec<u8>>>,
}

/// Larger ones are not kept.
const KEPT_TEXT: usize = 8 << 10;

/// More is given back to the allocator.
const KEPT_SMALL: usize = 16;
const KEPT_LARGE: usize = 4;

impl Buffers {
    pub fn small(&self) -> Buffer {
        self.small.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(SMALL))
    }

    pub fn large(&self) -> Buffer {
        self.large.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(LARGE))
    }

    /// For heads to be written.
    pub fn text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2 << 10))
    }

    pub fn give_back_text(&self, mut text: Vec<u8>) {
        text.clear();
        let mut kept = self.texts.borrow_mut();
        if text.capacity() <= KEPT_TEXT && kept.len() < KEPT_SMALL {
            kept.push(text);
        }
    }

    /// Whatever it still holds is forgotten; the next user overwrites it before anything can be read.
    pub fn give_back(&self, mut buffer: Buffer) {
        buffer.clear();
        let (kept, limit) = match buffer.capacity() {
            SMALL => (&self.small, KEPT_SMALL),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < limit {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::with_capacity(4);
        assert_eq!(buffer.append(b"abcdef"), 4);
        assert!(buffer.is_full());
        buffer.consume(3);
        assert_eq!(buffer.append(b"ef"), 2);
        assert_eq!(buffer.filled(), b"def");
        buffer.grow(8);
        assert_eq!(buffer.append(b"ghijkl"), 5);
        assert_eq!(buffer.filled(), b"defghijk");
        buffer.consume(100);
        assert!(buffer.is_empty());
    }
}

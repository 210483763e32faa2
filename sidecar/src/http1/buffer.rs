//! Bytes read and not yet consumed, in memory that connections hand on to each other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::{io, pin::Pin};

use tokio::io::{AsyncRead, ReadBuf};

/// Holds most heads, and a head with a small body at once.
pub const SMALL: usize = 16 << 10;
/// For bodies: fewer system calls, and still inside the second-level cache.
pub const LARGE: usize = 128 << 10;
/// What is less than this waits in memory of its own size.
const PARKED: usize = SMALL / 2;

#[derive(Default)]
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    /// Much is to come: memory is borrowed by the [`LARGE`] piece.
    large: bool,
    /// What it holds waits for more in memory that has room for nothing else.
    parked: bool,
    /// Absent while nobody uses it.
    lent: Option<Lent>,
}

/// So many bytes of a worker's room, for as long as this lives.
pub struct Lent {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Lent {
    fn new(total: &Rc<Cell<usize>>, bytes: usize) -> Self {
        total.set(total.get() + bytes);
        Self { total: Rc::clone(total), bytes }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

impl Buffer {
    fn with_capacity(capacity: usize) -> Self {
        Self { data: vec![0; capacity].into_boxed_slice(), ..Self::default() }
    }

    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// For whoever works on it in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
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
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.parked {
            *self = Self::default();
        }
    }

    /// Appends what there is room for, and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        self.make_room();
        let count = bytes.len().min(self.data.len() - self.end);
        self.data[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }

    /// Makes room for so many bytes behind what it holds, in larger memory if need be.
    pub fn reserve(&mut self, room: usize, pool: &Buffers) {
        if self.capacity() == 0 {
            *self = Self { large: self.large, ..pool.small() };
        }
        if self.data.len() - self.len() < room {
            self.grow(self.len() + room, pool);
        } else if self.data.len() - self.end < room {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
    }

    /// The room behind what it holds, to be written to, and then to be [claimed](Self::claim).
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.end..]
    }

    pub fn claim(&mut self, count: usize) {
        self.end = (self.end + count).min(self.data.len());
    }

    /// Appends all of it.
    pub fn hold(&mut self, bytes: &[u8], pool: &Buffers) {
        self.reserve(bytes.len(), pool);
        self.append(bytes);
    }

    /// No room is left, even after what was consumed has been given back.
    pub fn is_full(&self) -> bool {
        self.len() == self.data.len() && self.capacity() > 0 && !self.parked
    }

    /// Moves what it holds to larger memory.
    pub fn grow(&mut self, capacity: usize, pool: &Buffers) {
        let mut larger = Self::with_capacity(capacity.max(self.len()));
        larger.lent = Some(pool.lend(larger.capacity()));
        larger.append(self.filled());
        pool.give_back(std::mem::replace(self, larger));
    }

    /// Gives the memory back though something is in it, where that is little: whoever sends a byte a minute, or waits for somebody else,
    /// holds bytes and not buffers.
    pub fn park(&mut self, pool: &Buffers) {
        if !self.parked && self.capacity() == SMALL && (1..PARKED).contains(&self.len()) {
            let held: Box<[u8]> = self.filled().into();
            let parked = Self {
                end: held.len(),
                lent: Some(pool.lend(held.len())),
                data: held,
                parked: true,
                ..Self::default()
            };
            pool.give_back(std::mem::replace(self, parked));
        }
    }

    fn unpark(&mut self, pool: &Buffers) {
        let mut roomy = pool.small();
        roomy.append(self.filled());
        *self = roomy;
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
        if self.parked {
            self.unpark(pool);
        }
        let borrowed = self.capacity() == 0;
        if borrowed {
            let memory = if self.large { pool.large() } else { pool.small() };
            *self = Self { large: self.large, ..memory };
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
            pool.give_back(std::mem::replace(self, Self { large: self.large, ..Self::default() }));
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
pub struct Buffers {
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    texts: RefCell<Vec<Vec<u8>>>,
    lent: Rc<Cell<usize>>,
    room: usize,
}

/// Larger ones are not kept.
const KEPT_TEXT: usize = 8 << 10;

/// More is given back to the allocator.
const KEPT_SMALL: usize = 16;
const KEPT_LARGE: usize = 4;

impl Buffers {
    /// `room`: how many bytes may be lent before no more requests are taken.
    pub fn new(room: usize) -> Self {
        Self {
            small: RefCell::default(),
            large: RefCell::default(),
            texts: RefCell::default(),
            lent: Rc::default(),
            room,
        }
    }

    /// What is under way has taken all the room; it may go on, nothing new may begin.
    pub fn is_short(&self) -> bool {
        self.lent.get() >= self.room
    }

    /// Refusals have taken what there was for them beside that room.
    pub fn is_exhausted(&self) -> bool {
        self.lent.get() >= self.room + self.room / 8
    }

    /// Counts memory that is kept elsewhere.
    pub fn lend(&self, bytes: usize) -> Lent {
        Lent::new(&self.lent, bytes)
    }

    pub fn small(&self) -> Buffer {
        let memory = self.small.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(SMALL));
        Buffer { lent: Some(self.lend(SMALL)), ..memory }
    }

    /// A small one after all where room gets scarce: large ones are for speed only.
    pub fn large(&self) -> Buffer {
        if self.lent.get() + LARGE > self.room / 2 {
            return self.small();
        }
        let memory = self.large.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(LARGE));
        Buffer { lent: Some(self.lend(LARGE)), ..memory }
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
        buffer.lent = None;
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
        buffer.grow(8, &Buffers::new(1 << 20));
        assert_eq!(buffer.append(b"ghijkl"), 5);
        assert_eq!(buffer.filled(), b"defghijk");
        buffer.consume(100);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_must_be_held_is_held_whole() {
        let pool = Buffers::new(1 << 20);
        let mut buffer = Buffer::default();
        buffer.hold(&[1; SMALL - 2], &pool);
        assert_eq!((buffer.capacity(), pool.lent.get()), (SMALL, SMALL));
        buffer.consume(SMALL - 4);
        buffer.hold(&[2; 8], &pool);
        assert_eq!((buffer.filled(), buffer.capacity()), (&[1, 1, 2, 2, 2, 2, 2, 2, 2, 2][..], SMALL));
        buffer.hold(&[3; SMALL], &pool);
        assert_eq!((buffer.len(), buffer.capacity(), pool.lent.get()), (SMALL + 10, SMALL + 10, SMALL + 10));
        buffer.consume(SMALL + 8);
        buffer.reserve(4, &pool);
        buffer.spare_mut()[..4].copy_from_slice(b"more");
        buffer.claim(4);
        assert_eq!(buffer.filled(), b"\x03\x03more");
    }

    #[test]
    fn what_is_lent_is_counted_and_comes_back_however_it_ends() {
        let pool = Buffers::new(LARGE);
        let small = pool.small();
        assert_eq!((pool.lent.get(), pool.is_short()), (SMALL, false));
        // Half of the room is for large ones.
        assert_eq!(pool.large().capacity(), SMALL);
        let others: Vec<_> = (0..7).map(|_| pool.small()).collect();
        assert!(pool.is_short());
        drop(others);
        assert_eq!(pool.lent.get(), SMALL);
        pool.give_back(small);
        assert_eq!(pool.lent.get(), 0);
        let elsewhere = pool.lend(5);
        assert_eq!(pool.lent.get(), 5);
        drop(elsewhere);
        assert_eq!(pool.lent.get(), 0);
    }

    #[test]
    fn a_few_bytes_wait_in_little_memory() {
        let pool = Buffers::new(1 << 20);
        let mut buffer = pool.small();
        buffer.append(b"GET / HT");
        buffer.park(&pool);
        assert_eq!((buffer.filled(), buffer.is_full(), pool.lent.get()), (&b"GET / HT"[..], false, 8));
        let mut rest = &b"TP/1.1"[..];
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(buffer.poll_fill_from_pool(&mut context, &mut rest, &pool).is_ready());
        assert_eq!((buffer.filled(), pool.lent.get()), (&b"GET / HTTP/1.1"[..], SMALL));
        buffer.park(&pool);
        buffer.consume(4);
        assert_eq!(buffer.filled(), b"/ HTTP/1.1");
        buffer.consume(10);
        assert_eq!((buffer.capacity(), pool.lent.get()), (0, 0), "nothing is left that waits");
        let mut buffer = pool.small();
        buffer.append(&[b'x'; PARKED]);
        buffer.park(&pool);
        assert_eq!(pool.lent.get(), SMALL, "too much to be worth it");
    }
}

//! Netlink to the kernel's netfilter: messages out in one transaction, one acknowledgement each back.

use std::io::{self, Read as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NLA_F_NESTED: u16 = 1 << 15;

const HEADER_LEN: usize = 16;

/// One message of the `nf_tables` subsystem.
pub struct Message {
    /// `NFT_MSG_…`
    pub kind: u8,
    /// `NLM_F_…` beyond request and acknowledgement.
    pub flags: u16,
    /// `NFPROTO_…`
    pub family: u8,
    pub attributes: Attributes,
}

/// Attributes in network byte order, each padded to four bytes.
#[derive(Clone, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    #[must_use]
    pub fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }
}

/// All of it or nothing.
pub fn commit(messages: &[Message]) -> io::Result<()> {
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)))?;
    // The kernel answers before `send` returns; this only bounds a surprise.
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(&batch(messages))?;
    let mut outstanding = messages.len();
    let mut buffer = vec![0; 64 << 10];
    while outstanding > 0 {
        let length = (&socket).read(&mut buffer)?;
        outstanding = outstanding.saturating_sub(acknowledged(&buffer[..length])?);
    }
    Ok(())
}

fn batch(messages: &[Message]) -> Vec<u8> {
    let subsystem = u16::from(NFNL_SUBSYS_NFTABLES);
    let mut out = Vec::new();
    append(&mut out, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, subsystem, &[]);
    for message in messages {
        let kind = subsystem << 8 | u16::from(message.kind);
        let flags = NLM_F_REQUEST | NLM_F_ACK | message.flags;
        append(&mut out, kind, flags, message.family, 0, &message.attributes.0);
    }
    append(&mut out, NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, subsystem, &[]);
    out
}

/// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
fn append(out: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
    let length = u32::try_from(HEADER_LEN + 4 + attributes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port: nobody else uses this socket.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(attributes);
}

/// How many acknowledgements these bytes hold; the first error ends it.
fn acknowledged(mut bytes: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if length < HEADER_LEN || length > bytes.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if kind == NLMSG_ERROR {
            let code = rest.first_chunk().map(|code| i32::from_ne_bytes(*code)).ok_or(io::ErrorKind::InvalidData)?;
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            count += 1;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i32) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend_from_slice(&36u32.to_ne_bytes());
        message.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(&code.to_ne_bytes());
        message.extend_from_slice(&[0; 16]);
        message
    }

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::default().text(1, "ab");
        let outer = Attributes::default().nested(4, &inner).number(2, 1);
        assert_eq!(outer.0[..4], [12u16.to_ne_bytes(), (4 | NLA_F_NESTED).to_ne_bytes()].concat());
        assert_eq!(outer.0[4..12], [&7u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), b"ab\0\0"].concat());
        assert_eq!(outer.0[12..], [&8u16.to_ne_bytes()[..], &2u16.to_ne_bytes(), &[0, 0, 0, 1]].concat());
    }

    #[test]
    fn one_refusal_is_an_error_whatever_else_was_acknowledged() {
        assert_eq!(acknowledged(&[answer(0), answer(0)].concat()).unwrap(), 2);
        let error = acknowledged(&[answer(0), answer(-1)].concat()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1));
        assert!(acknowledged(&[0; 16]).is_err(), "a length of nothing must not loop");
        assert!(acknowledged(&answer(0)[..20]).is_err());
    }
}

//! The rules, as `nft` would write them:
//!
//! ```text
//! table inet cloakroom {
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         iifname != "lo" tcp dport 8080 redirect to :15006
//!     }
//! }
//! ```

use cloakroom_protocol::injected::Port;

use super::netlink::{Attributes, Message};

const TABLE: &str = "cloakroom";
const CHAIN: &str = "prerouting";

const NFPROTO_INET: u8 = 1;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NEWTABLE: u8 = 0;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const NEWRULE: u8 = 6;

const PRIORITY_DSTNAT: u32 = (-100i32).cast_unsigned();
const PRE_ROUTING: u32 = 0;
const ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const IPPROTO_TCP: u8 = 6;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const RANGE_PROTO_SPECIFIED: u32 = 2;

pub fn messages(ports: &[Port]) -> Vec<Message> {
    let table = || Attributes::default().text(1, TABLE);
    let mut messages = vec![
        // Deleting what is not there is an error, adding what is there is none.
        message(NEWTABLE, NLM_F_CREATE, table()),
        message(DELTABLE, 0, table()),
        message(NEWTABLE, NLM_F_CREATE, table()),
        message(NEWCHAIN, NLM_F_CREATE, chain()),
    ];
    messages.extend(ports.iter().map(|port| message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule(*port))));
    messages
}

fn message(kind: u8, flags: u16, attributes: Attributes) -> Message {
    Message { kind, flags, family: NFPROTO_INET, attributes }
}

fn chain() -> Attributes {
    let hook = Attributes::default().number(1, PRE_ROUTING).number(2, PRIORITY_DSTNAT);
    Attributes::default().text(1, TABLE).text(3, CHAIN).nested(4, &hook).number(5, ACCEPT).text(7, "nat")
}

fn rule(port: Port) -> Attributes {
    let mut loopback = [0; 16];
    loopback[..2].copy_from_slice(b"lo");
    let expressions = [
        meta(META_IIFNAME),
        compare(NOT_EQUAL, &loopback),
        meta(META_L4PROTO),
        compare(EQUAL, &[IPPROTO_TCP]),
        destination_port(),
        compare(EQUAL, &port.app.to_be_bytes()),
        load(&port.listen.to_be_bytes()),
        redirect(),
    ];
    let list = expressions.iter().fold(Attributes::default(), |list, expression| list.nested(1, expression));
    Attributes::default().text(1, TABLE).text(2, CHAIN).nested(4, &list)
}

fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, data)
}

fn meta(key: u32) -> Attributes {
    expression("meta", &Attributes::default().number(1, REGISTER).number(2, key))
}

fn compare(operator: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default().bytes(1, value);
    expression("cmp", &Attributes::default().number(1, REGISTER).number(2, operator).nested(3, &data))
}

/// The second two bytes of a TCP header.
fn destination_port() -> Attributes {
    let data = Attributes::default().number(1, REGISTER).number(2, TRANSPORT_HEADER).number(3, 2).number(4, 2);
    expression("payload", &data)
}

fn load(value: &[u8]) -> Attributes {
    let data = Attributes::default().bytes(1, value);
    expression("immediate", &Attributes::default().number(1, REGISTER).nested(2, &data))
}

fn redirect() -> Attributes {
    expression("redir", &Attributes::default().number(1, REGISTER).number(3, RANGE_PROTO_SPECIFIED))
}

//! Rules of the packet filter (`linux/netfilter/nf_tables.h`). As `nft(8)` writes them:
//!
//! ```text
//! table inet e { chain p { type filter hook prerouting priority mangle;
//!     ip daddr 127.0.0.0/8 accept
//!     ip6 daddr ::1 accept
//!     meta l4proto tcp tproxy to :PORT } }
//! ```

use crate::sys::NetlinkMessages;

/// `NFPROTO_INET`: both versions of the protocol.
pub const INET: u8 = 1;
/// `NFPROTO_IPV4`
pub const IPV4: u8 = 2;
const IPV6: u8 = 10;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;

const TABLE: &[u8] = b"e\0";
const CHAIN: &[u8] = b"p\0";
/// `NFT_REG_1`, of 16 bytes.
const REGISTER: u32 = 1;
const TCP: u8 = 6;

pub fn batch(family: u8, port: u16) -> NetlinkMessages {
    let mut batch = NetlinkMessages::new();
    // struct nfgenmsg: family, version, and the resource in network order
    let fixed = [family, 0, 0, 0];
    let of_subsystem = [0, 0, 0, SUBSYSTEM as u8];
    batch.delimiter(BATCH_BEGIN, &of_subsystem);
    // NFTA_TABLE_NAME
    batch.create(NEW_TABLE, &fixed, |table| table.attribute(1, TABLE));
    batch.create(NEW_CHAIN, &fixed, |chain| {
        // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_TYPE
        chain.attribute(1, TABLE);
        chain.attribute(3, CHAIN);
        chain.nested(4, |hook| {
            // NFTA_HOOK_HOOKNUM: prerouting; NFTA_HOOK_PRIORITY: mangle
            hook.attribute(1, &0u32.to_be_bytes());
            hook.attribute(2, &(-150i32).to_be_bytes());
        });
        chain.attribute(7, b"filter\0");
    });
    rule(&mut batch, &fixed, |rule| {
        protocol_version(rule, IPV4);
        destination(rule, 16, &[127]);
        accept(rule);
    });
    rule(&mut batch, &fixed, |rule| {
        protocol_version(rule, IPV6);
        destination(rule, 24, &1u128.to_be_bytes());
        accept(rule);
    });
    rule(&mut batch, &fixed, |rule| {
        // NFT_META_L4PROTO
        meta(rule, 16);
        compare(rule, &[TCP]);
        assign(rule, port);
    });
    batch.delimiter(BATCH_END, &of_subsystem);
    batch
}

fn rule(batch: &mut NetlinkMessages, fixed: &[u8], expressions: impl FnOnce(&mut NetlinkMessages)) {
    batch.append(NEW_RULE, fixed, |rule| {
        // NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS
        rule.attribute(1, TABLE);
        rule.attribute(2, CHAIN);
        rule.nested(4, expressions);
    });
}

fn expression(rule: &mut NetlinkMessages, name: &[u8], data: impl FnOnce(&mut NetlinkMessages)) {
    // NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA
    rule.nested(1, |element| {
        element.attribute(1, name);
        element.nested(2, data);
    });
}

/// Loads a fact about the packet.
fn meta(rule: &mut NetlinkMessages, key: u32) {
    expression(rule, b"meta\0", |data| {
        // NFTA_META_DREG, NFTA_META_KEY
        data.attribute(1, &REGISTER.to_be_bytes());
        data.attribute(2, &key.to_be_bytes());
    });
}

fn protocol_version(rule: &mut NetlinkMessages, version: u8) {
    // NFT_META_NFPROTO
    meta(rule, 15);
    compare(rule, &[version]);
}

/// Goes on if the destination, at `offset` of the header, begins with these bytes.
fn destination(rule: &mut NetlinkMessages, offset: u32, begin: &[u8]) {
    expression(rule, b"payload\0", |data| {
        // NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE: the network header, NFTA_PAYLOAD_OFFSET,
        // NFTA_PAYLOAD_LEN
        data.attribute(1, &REGISTER.to_be_bytes());
        data.attribute(2, &1u32.to_be_bytes());
        data.attribute(3, &offset.to_be_bytes());
        data.attribute(4, &(begin.len() as u32).to_be_bytes());
    });
    compare(rule, begin);
}

/// Goes on if the register has this value.
fn compare(rule: &mut NetlinkMessages, value: &[u8]) {
    expression(rule, b"cmp\0", |data| {
        // NFTA_CMP_SREG, NFTA_CMP_OP: equal, NFTA_CMP_DATA with NFTA_DATA_VALUE
        data.attribute(1, &REGISTER.to_be_bytes());
        data.attribute(2, &0u32.to_be_bytes());
        data.nested(3, |content| content.attribute(1, value));
    });
}

fn accept(rule: &mut NetlinkMessages) {
    expression(rule, b"immediate\0", |data| {
        // NFTA_IMMEDIATE_DREG: NFT_REG_VERDICT; NFTA_IMMEDIATE_DATA with NFTA_DATA_VERDICT with
        // NFTA_VERDICT_CODE: NF_ACCEPT
        data.attribute(1, &0u32.to_be_bytes());
        data.nested(2, |content| {
            content.nested(2, |verdict| verdict.attribute(1, &1u32.to_be_bytes()));
        });
    });
}

/// Assigns the packet to the transparent listener on a port.
fn assign(rule: &mut NetlinkMessages, port: u16) {
    expression(rule, b"immediate\0", |data| {
        data.attribute(1, &REGISTER.to_be_bytes());
        data.nested(2, |content| content.attribute(1, &port.to_be_bytes()));
    });
    expression(rule, b"tproxy\0", |data| {
        // NFTA_TPROXY_FAMILY: that of the packet; NFTA_TPROXY_REG_PORT
        data.attribute(1, &0u32.to_be_bytes());
        data.attribute(3, &REGISTER.to_be_bytes());
    });
}

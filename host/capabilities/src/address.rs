//! Which addresses a skill may reach.
//!
//! The lists are the IANA special-purpose address registries (RFC 6890 and its updates), and the metadata services
//! of the large clouds, which hand out credentials to whoever can reach them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The operator's word on addresses that are otherwise refused.
#[derive(Debug, Clone, Default)]
pub struct AddressRule {
    /// Ranges that the operator opened.
    pub open: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedAddress {
    /// What kind of address it is.
    pub kind: &'static str,
    /// Whether an operator could open it.
    pub can_be_opened: bool,
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} address", self.kind)?;
        f.write_str(if self.can_be_opened { ", which skills may not reach" } else { ", which skills may never reach" })
    }
}

impl AddressRule {
    /// `Ok(true)` for an address that the operator opened, `Ok(false)` for a public one.
    pub fn check(&self, address: IpAddr) -> Result<bool, RefusedAddress> {
        let address = unwrapped(address);
        if METADATA.contains(&address) {
            return Err(RefusedAddress { kind: "cloud metadata", can_be_opened: false });
        }
        if self.open.iter().any(|range| range.contains(&address)) {
            return Ok(true);
        }
        match special(address) {
            None => Ok(false),
            Some(kind) => Err(RefusedAddress { kind, can_be_opened: true }),
        }
    }
}

/// AWS, Azure, Google, Oracle and Alibaba.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The IPv4 address that an IPv6 address stands for, if it does: mapped, NAT64 and 6to4.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let embedded = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        _ => address,
    }
}

fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [169, 254, ..] => Some("link-local"),
        [100, 64..=127, ..] => Some("carrier-grade NAT"),
        [192, 0, 0, _] | [192, 88, 99, _] => Some("protocol assignment"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation"),
        [198, 18..=19, ..] => Some("benchmarking"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn special_v6(v6: Ipv6Addr) -> Option<&'static str> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfc00..=0xfdff, ..] => Some("private"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("documentation"),
        // Teredo, ORCHID, benchmarking and what else IETF protocols were assigned.
        [0x2001, 0..=0x01ff, ..] => Some("protocol assignment"),
        // Only 2000::/3 is in use on the public Internet: what is new there is refused until it is known.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], expected: Option<&str>) {
        for text in addresses {
            let address = text.parse().unwrap();
            assert_eq!(AddressRule::default().check(address).err().map(|e| e.kind), expected, "{text}");
        }
    }

    #[test]
    fn hostile_15_addresses_inside_the_hosts_network_are_refused_in_every_form() {
        check(&["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"], Some("loopback"));
        check(&["2002:7f00:1::", "2002:7f00:0001::1"], Some("loopback"));
        check(
            &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd12::1", "::ffff:10.0.0.1"],
            Some("private"),
        );
        check(&["169.254.1.1", "fe80::1", "febf::1", "64:ff9b::a9fe:101"], Some("link-local"));
        check(&["100.64.0.1", "100.127.255.255"], Some("carrier-grade NAT"));
        check(&["0.0.0.0", "0.1.2.3", "::"], Some("unspecified"));
        check(&["224.0.0.1", "239.255.255.255", "ff02::1"], Some("multicast"));
        check(&["255.255.255.255", "240.0.0.1", "::7f00:1", "fec0::1", "64:ff9b:1::1", "4000::1"], Some("reserved"));
        check(&["192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1"], Some("documentation"));
        check(&["198.18.0.1", "198.19.255.255"], Some("benchmarking"));
        check(&["192.0.0.1", "2001::1", "2001:2::1", "192.88.99.1"], Some("protocol assignment"));
        check(
            &[
                "169.254.169.254",
                "168.63.129.16",
                "100.100.100.200",
                "192.0.0.192",
                "fd00:ec2::254",
                "::ffff:169.254.169.254",
            ],
            Some("cloud metadata"),
        );
        check(&["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"], None);
    }

    #[test]
    fn an_operator_opens_a_range_and_never_the_metadata_service() {
        let rule = AddressRule { open: vec!["127.0.0.1/32".parse().unwrap(), "169.254.0.0/16".parse().unwrap()] };
        assert_eq!(rule.check("127.0.0.1".parse().unwrap()), Ok(true));
        assert_eq!(rule.check("::ffff:127.0.0.1".parse().unwrap()), Ok(true));
        assert_eq!(rule.check("127.0.0.2".parse().unwrap()).unwrap_err().kind, "loopback");
        assert!(!rule.check("169.254.169.254".parse().unwrap()).unwrap_err().can_be_opened);
        assert_eq!(rule.check("1.1.1.1".parse().unwrap()), Ok(false));
    }
}

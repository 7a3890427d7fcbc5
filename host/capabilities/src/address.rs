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
        // The anycast ones among them serve protocols, and no skill.
        [192, 0, 0, _] | [192, 88, 99, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => {
            Some("protocol assignment")
        }
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
        [0x2001, 0..=0x01ff, ..] | [0x2620, 0x4f, 0x8000, ..] => Some("protocol assignment"),
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

    /// The IANA special-purpose address registries as of November 2026, those of IPv4 and of IPv6: each block with what it is called
    /// here, or nothing where it is reachable from everywhere.
    const REGISTRIES: [(&str, Option<&str>); 53] = [
        ("0.0.0.0/8", Some("unspecified")),
        ("0.0.0.0/32", Some("unspecified")),
        ("10.0.0.0/8", Some("private")),
        ("100.64.0.0/10", Some("carrier-grade NAT")),
        ("127.0.0.0/8", Some("loopback")),
        ("169.254.0.0/16", Some("link-local")),
        ("172.16.0.0/12", Some("private")),
        ("192.0.0.0/24", Some("protocol assignment")),
        ("192.0.0.0/29", Some("protocol assignment")),
        ("192.0.0.8/32", Some("protocol assignment")),
        ("192.0.0.9/32", Some("protocol assignment")),
        ("192.0.0.10/32", Some("protocol assignment")),
        ("192.0.0.170/32", Some("protocol assignment")),
        ("192.0.0.171/32", Some("protocol assignment")),
        ("192.0.2.0/24", Some("documentation")),
        ("192.31.196.0/24", Some("protocol assignment")),
        ("192.52.193.0/24", Some("protocol assignment")),
        ("192.88.99.0/24", Some("protocol assignment")),
        ("192.88.99.2/32", Some("protocol assignment")),
        ("192.168.0.0/16", Some("private")),
        ("192.175.48.0/24", Some("protocol assignment")),
        ("198.18.0.0/15", Some("benchmarking")),
        ("198.51.100.0/24", Some("documentation")),
        ("203.0.113.0/24", Some("documentation")),
        ("224.0.0.0/4", Some("multicast")),
        ("240.0.0.0/4", Some("reserved")),
        ("255.255.255.255/32", Some("reserved")),
        ("::1/128", Some("loopback")),
        ("::/128", Some("unspecified")),
        // Compatible ones, which nobody uses any more.
        ("::/96", Some("reserved")),
        ("64:ff9b:1::/48", Some("reserved")),
        ("100::/64", Some("reserved")),
        ("100:0:0:1::/64", Some("reserved")),
        ("2001::/23", Some("protocol assignment")),
        ("2001::/32", Some("protocol assignment")),
        ("2001:1::1/128", Some("protocol assignment")),
        ("2001:1::2/128", Some("protocol assignment")),
        ("2001:1::3/128", Some("protocol assignment")),
        ("2001:2::/48", Some("protocol assignment")),
        ("2001:3::/32", Some("protocol assignment")),
        ("2001:4:112::/48", Some("protocol assignment")),
        ("2001:10::/28", Some("protocol assignment")),
        ("2001:20::/28", Some("protocol assignment")),
        ("2001:30::/28", Some("protocol assignment")),
        ("2001:db8::/32", Some("documentation")),
        ("2620:4f:8000::/48", Some("protocol assignment")),
        ("3fff::/20", Some("documentation")),
        ("5f00::/16", Some("reserved")),
        ("fc00::/7", Some("private")),
        ("fe80::/10", Some("link-local")),
        ("fec0::/10", Some("reserved")),
        ("ff00::/8", Some("multicast")),
        ("2606:4700::/32", None),
    ];

    /// The first, the last and some addresses in the middle of a block.
    fn samples(block: IpNet) -> Vec<IpAddr> {
        let (first, last) = (block.network(), block.broadcast());
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let (low, high) = (number(first), number(last));
        let middle = (1..=7).map(|n| low + (high - low) / 8 * n).map(|at| match first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(at).unwrap())),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(at)),
        });
        middle.chain([first, last]).collect()
    }

    #[test]
    fn hostile_15_each_block_of_the_registries_is_refused_from_its_first_to_its_last_address() {
        for (block, kind) in REGISTRIES {
            for address in samples(block.parse().unwrap()) {
                let refused = AddressRule::default().check(address);
                let is_narrower = |why: &RefusedAddress| {
                    // A smaller block within, or a service of a cloud.
                    why.kind == "cloud metadata" || matches!((block, why.kind), ("::/96", "loopback" | "unspecified"))
                };
                match (kind, refused) {
                    (None, Ok(false)) => {}
                    (Some(kind), Err(why)) if why.kind == kind || is_narrower(&why) => {}
                    (kind, refused) => panic!("{address} of {block}: {refused:?}, and not {kind:?}"),
                }
            }
        }
    }

    #[test]
    fn hostile_15_an_ipv4_address_within_an_ipv6_one_is_what_it_stands_for() {
        for (block, kind) in REGISTRIES {
            let Ok(IpNet::V4(block)) = block.parse() else { continue };
            for address in samples(block.into()) {
                let IpAddr::V4(v4) = address else { continue };
                let [a, b, c, d] = v4.octets().map(u16::from);
                let (high, low) = (a << 8 | b, c << 8 | d);
                for within in [
                    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                    Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                ] {
                    let (inner, outer) =
                        (AddressRule::default().check(address), AddressRule::default().check(within.into()));
                    assert_eq!(inner, outer, "{within} of {kind:?}");
                }
                // Compatible, the other NAT64 and Teredo are refused whatever they hold.
                for within in [
                    Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                    Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                    Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
                ] {
                    assert!(AddressRule::default().check(within.into()).is_err(), "{within}");
                }
            }
        }
    }

    #[test]
    fn hostile_15_every_spelling_of_an_address_that_the_url_parser_takes_is_that_address() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "0x7F.1",
            "2130706433",
            "017700000001",
            "127.0.0.1.",
            "１２７.０.０.１",
            "①②⑦.⓪.⓪.①",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
        ] {
            let url = url::Url::parse(&format!("https://{host}/")).unwrap_or_else(|e| panic!("{host}: {e}"));
            let address: IpAddr = match url.host().unwrap() {
                url::Host::Ipv4(v4) => v4.into(),
                url::Host::Ipv6(v6) => v6.into(),
                url::Host::Domain(name) => panic!("{host} is the name {name}"),
            };
            assert_eq!(AddressRule::default().check(address).unwrap_err().kind, "loopback", "{host}");
        }
        // Zones, and what is no address, are no URL.
        for host in ["[fe80::1%25eth0]", "[fe80::1%eth0]", "256.0.0.1", "1.2.3.4.5", "[::1", "127.0.0.1:99999"] {
            assert!(url::Url::parse(&format!("https://{host}/")).is_err(), "{host}");
        }
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

//! What an address is: public, or one that is never dialled, whatever the settings say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Whether the address belongs to a service of a cloud that hands out credentials or other secrets of the machine. An
/// IPv6 address that carries such an IPv4 address, in whichever form, counts as well.
pub(super) fn is_never_allowed(address: IpAddr) -> bool {
    is_within_any(&NEVER, address)
}

/// Whether one of the networks has the address, or an IPv4 address that it carries.
pub(super) fn is_within_any(nets: &[IpNet], address: IpAddr) -> bool {
    let has = |address: IpAddr| nets.iter().any(|net| net.contains(&address));
    has(address) || carried(address).any(|v4| has(v4.into()))
}

/// Whether the address is globally reachable. If it carries an IPv4 address, that one has to be, too.
pub(super) fn is_public(address: IpAddr) -> bool {
    let is_public_v4 = |v4: Ipv4Addr| !DENIED_V4.iter().any(|net| net.contains(&v4));
    match (address, reached(address)) {
        (_, IpAddr::V4(v4)) => is_public_v4(v4),
        (_, IpAddr::V6(v6)) => {
            GLOBAL_V6.contains(&v6)
                && !DENIED_V6.iter().any(|net| net.contains(&v6))
                && carried(address).all(is_public_v4)
        }
    }
}

/// The address that a connection to this one reaches: the IPv4 address within an IPv4-mapped address or within one of
/// NAT64's well-known prefix 64:ff9b::/96 (RFC 6052), which clusters with NAT64 use for the whole of IPv4. Any other
/// address as it is.
pub(super) fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => low_bits(v6, 0).into(),
        _ => address,
    }
}

/// The IPv4 addresses that an IPv6 address may carry, in every form that a standard knows.
fn carried(address: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let mut found = [None; 4];
    if let IpAddr::V6(v6) = address {
        let end = low_bits(v6, 0);
        found = match v6.segments() {
            // IPv4-compatible and IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
            [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                [Some(end), None, None, None]
            }
            // NAT64 of a network's own (RFC 8215), with a prefix of 48, 56, 64 or 96 bits (RFC 6052, 2.2).
            [0x64, 0xff9b, 1, ..] => [Some(split(v6, 48)), Some(split(v6, 56)), Some(low_bits(v6, 24)), Some(end)],
            // 6to4 (RFC 3056).
            [0x2002, ..] => [Some(low_bits(v6, 80)), None, None, None],
            // Teredo (RFC 4380): the server, and the client with its bits inverted.
            [0x2001, 0, ..] => [Some(low_bits(v6, 64)), Some(!end), None, None],
            // ISATAP (RFC 5214).
            [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [Some(end), None, None, None],
            _ => found,
        };
    }
    found.into_iter().flatten()
}

/// The 32 bits that have `below` bits below them.
fn low_bits(address: Ipv6Addr, below: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((address.to_bits() >> below) as u32)
}

/// The 32 bits after a prefix of this length, without the octet of zeros at bit 64.
fn split(address: Ipv6Addr, prefix: u32) -> Ipv4Addr {
    let bits = address.to_bits();
    let (high, low) = (bits >> 64, bits << 72);
    let joined = high << 64 | low >> 64;
    Ipv4Addr::from_bits((joined << prefix >> 96) as u32)
}

/// Where clouds hand out credentials and other secrets of a machine.
///
/// - 169.254.0.0/16 and fe80::/10, link-local: the instance metadata of nearly every cloud (169.254.169.254), the
///   credentials of ECS tasks and of EKS Pod Identity (169.254.170.2 and .23, "Task IAM role" and "Pod Identity Agent"
///   in the guides of ECS and EKS), OpenStack's metadata (fe80::a9fe:a9fe, "Metadata service" in the guide of Nova).
/// - fd00:ec2::/32, the same of AWS over IPv6: fd00:ec2::254 ("Use the Instance Metadata Service" in the guide of EC2),
///   fd00:ec2::23 ("Set up the Amazon EKS Pod Identity Agent"). AWS keeps the whole range for its own services ("IPv6
///   on AWS", supporting VPC services).
/// - fd20:ce::254, Google ("About VM metadata", metadata server of IPv6-only VMs).
/// - 168.63.129.16, Azure, a public address ("What is IP address 168.63.129.16?").
/// - 100.100.100.200 and fd00:100::100:200, Alibaba Cloud ("View instance metadata" in the guide of ECS).
/// - 100.96.0.96, Volcengine and BytePlus ("Viewing instance metadata" in the guide of ECS).
/// - 192.0.0.192, Oracle ("Retrieve Predefined Instance Metadata", Cloud at Customer), and fd00:c1::a9fe:a9fe (the
///   metadata address of OCI's SDKs and of cloud-init's data source "Oracle").
/// - fd00:42::42, Scaleway, and fd00:a9fe:a9fe::1, Akamai (cloud-init's data sources of these names).
static NEVER: [IpNet; 12] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 100, 200), 32)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 96, 0, 96), 32)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 192), 32)),
    IpNet::V6(v6(0xfe80, 0, 10)),
    IpNet::V6(v6(0xfd00, 0xec2, 32)),
    one([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),
    one([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]),
    one([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
    one([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]),
    one([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]),
];

const fn one(s: [u16; 8]) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), 128))
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// The IPv4 ranges that are not globally reachable by the IANA special-purpose registry, and multicast.
static DENIED_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];
/// The one IPv6 range whose addresses are globally reachable, apart from [`DENIED_V6`].
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
/// The exceptions within [`GLOBAL_V6`]: protocol assignments, documentation, 6to4, and documentation (RFC 9637).
static DENIED_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

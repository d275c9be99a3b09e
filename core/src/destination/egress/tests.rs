use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn egress(settings: Value) -> Egress {
    serde_json::from_value(settings).unwrap()
}

fn policy(settings: Value) -> EgressPolicy {
    EgressPolicy::clone(egress(settings).of("shop"))
}

fn all() -> EgressPolicy {
    policy(json!({ "allowedCIDRs": ["0.0.0.0/0", "::/0"], "allowedPorts": ["1-65535"], "plainHttp": true }))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_table() {
    let policy = EgressPolicy::default();
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2a00::5efe:a00:1",
        "2a00::200:5efe:127.0.0.1",
        "5f00::1",
        "100::1",
        "2001::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "3fff:fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "4000::1",
    ] {
        assert!(policy.check_address(ip(address)).is_err(), "{address} must be refused");
    }
    for address in [
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:200::1",
        "2001:4860::8888",
        "64:ff9b::1.1.1.1",
        "::ffff:1.1.1.1",
        "3fff:1000::1",
    ] {
        assert!(policy.check_address(ip(address)).is_ok(), "{address} must be allowed");
    }
}

#[test]
fn private_addresses_can_be_allowed() {
    let all = all();
    for address in
        ["10.1.2.3", "127.0.0.1", "::1", "::ffff:10.1.2.3", "64:ff9b::10.0.0.1", "fc00::1", "100.100.100.199"]
    {
        assert!(all.check_address(ip(address)).is_ok(), "{address}");
    }
    let one = policy(json!({ "allowedCIDRs": ["10.1.0.0/16"] }));
    assert!(one.check_address(ip("10.1.2.3")).is_ok());
    assert!(one.check_address(ip("::ffff:10.1.2.3")).is_ok());
    assert!(one.check_address(ip("10.2.2.3")).is_err());
}

/// The endpoints of clouds that hand out credentials.
const NEVER: [&str; 19] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.42.42",
    "169.254.0.23",
    "168.63.129.16",
    "100.100.100.200",
    "100.96.0.96",
    "192.0.0.192",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:ec2::253",
    "fd20:ce::254",
    "fd00:100::100:200",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
];

/// Every form in which an IPv6 address may carry an IPv4 address.
fn carriers(v4: Ipv4Addr) -> Vec<IpAddr> {
    let bits = u128::from(v4.to_bits());
    let nat64 = 0x0064_ff9b_0001_u128 << 80;
    let bits = [
        bits,
        0xffff << 32 | bits,
        0xffff << 48 | bits,
        0x0064_ff9b_u128 << 96 | bits,
        nat64 | (bits >> 16) << 64 | (bits & 0xffff) << 40,
        nat64 | (bits >> 24) << 64 | (bits & 0xff_ffff) << 32,
        nat64 | bits << 24,
        nat64 | bits,
        0x2002_u128 << 112 | bits << 80,
        0x2002_u128 << 112 | bits << 80 | 1,
        0x2001_u128 << 112 | bits << 64,
        0x2001_u128 << 112 | (!bits & 0xffff_ffff),
        0x2a00_u128 << 112 | 0x5efe << 32 | bits,
        0x2a00_u128 << 112 | 0x0200_5efe << 32 | bits,
        0xfd00_u128 << 112 | 0x5efe << 32 | bits,
    ];
    bits.into_iter().map(|bits| std::net::Ipv6Addr::from_bits(bits).into()).collect()
}

#[test]
fn what_hands_out_credentials_is_never_allowed_in_no_form() {
    let all = all();
    for text in NEVER {
        let address = ip(text);
        let carriers = if let IpAddr::V4(v4) = address { carriers(v4) } else { Vec::new() };
        for address in carriers.into_iter().chain([address]) {
            assert_eq!(all.check_address(address), Err(Refusal::Denied(address)), "{text}");
            assert!(all.check_service(address).is_err(), "{text}");
            let host = if let IpAddr::V6(v6) = address { format!("[{v6}]") } else { address.to_string() };
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(all.check_url(&url).is_err(), "{url}");
        }
    }
}

#[test]
fn what_is_denied_is_denied_to_all_in_every_form() {
    let egress = egress(json!({
        "deniedCIDRs": ["1.2.3.0/24", "2a00:1::/32", "10.1.0.0/24"],
        "namespaces": { "shop": { "allowedCIDRs": ["0.0.0.0/0", "::/0"] } },
    }));
    for namespace in ["shop", "other"] {
        let policy = egress.of(namespace);
        for address in carriers(Ipv4Addr::new(1, 2, 3, 4)).into_iter().chain([ip("2a00:1::5"), ip("10.1.0.1")]) {
            assert_eq!(policy.check_address(address), Err(Refusal::Denied(address)), "{namespace}");
            assert!(policy.check_service(address).is_err());
        }
        assert!(policy.check_address(ip("1.2.4.1")).is_ok());
    }
    assert!(egress.of("other").check_service(ip("10.2.0.1")).is_ok(), "the address of a Service is private");
}

#[test]
fn a_namespace_has_its_own_rules_and_the_others_where_it_says_nothing() {
    let egress = egress(json!({
        "allowedCIDRs": ["10.0.0.0/8"], "allowedHosts": ["example.com", "10.0.0.1"],
        "namespaces": {
            "wide": { "allowedHosts": [], "allowedPorts": ["1-65535"], "plainHttp": true },
            "strict": { "allowedCIDRs": [], "allowedHosts": ["example.com", "10.0.0.1", "1.1.1.1"] },
        },
    }));
    for (url, other, wide, strict) in [
        ("https://hooks.example.com/", true, true, true),
        ("https://example.org/", false, true, false),
        ("http://example.com:8080/", false, true, false),
        ("https://10.0.0.1/", true, true, false),
        ("https://10.0.0.2/", false, true, false),
        ("https://192.168.0.1/", false, false, false),
        ("https://1.1.1.1/", false, true, true),
    ] {
        let parsed = Url::parse(url).unwrap();
        let got = ["other", "wide", "strict"].map(|namespace| egress.of(namespace).check_url(&parsed).is_ok());
        assert_eq!(got, [other, wide, strict], "{url}");
    }
}

#[test]
fn all_rules_are_told_that_a_url_breaks() {
    let policy = policy(json!({ "allowedHosts": ["example.com"] }));
    let told = |url: &str| policy.refusals(&Url::parse(url).unwrap());
    assert_eq!(told("https://example.com/"), []);
    let (scheme, port) = (Refusal::Scheme("http".into()), Refusal::Port(8080));
    let [host, address] = [Refusal::Host("10.0.0.1".into()), Refusal::Address(ip("10.0.0.1"))];
    assert_eq!(told("http://10.0.0.1:8080/"), [scheme.clone(), host, port, address]);
    let port = Refusal::Port(80);
    let [host, address] = [Refusal::Host("localhost".into()), Refusal::Address(ip("127.0.0.1"))];
    assert_eq!(told("http://u@localhost/"), [scheme, Refusal::UserInfo, host, port, address]);
}

#[test]
fn hosts_that_are_the_machine_that_dials_them() {
    for (url, want) in [
        ("http://localhost:1/", true),
        ("http://a.localhost./", true),
        ("http://127.1/", true),
        ("http://[::ffff:127.0.0.1]/", true),
        ("http://localhost.example/", false),
        ("http://10.0.0.1/", false),
        ("data:x", false),
    ] {
        assert_eq!(is_loopback(&Url::parse(url).unwrap()), want, "{url}");
    }
}

#[test]
fn settings_that_make_no_sense() {
    for (settings, says) in [
        (json!({ "allowedPorts": [] }), "allowedPorts must have"),
        (json!({ "namespaces": { "shop": { "allowedPorts": [] } } }), "namespaces.shop.allowedPorts must"),
        (json!({ "namespaces": { "shop": { "deniedCIDRs": [] } } }), "unknown field"),
        (json!({ "allowedCIDRs": ["10.0.0.0"] }), ""),
        (json!({ "allowedHosts": ["*.example.com"] }), "write example.com"),
    ] {
        let error = serde_json::from_value::<Egress>(settings.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{settings}: {error}");
    }
}

#[test]
fn urls_table() {
    let strict = EgressPolicy::default();
    let open = policy(json!({
        "allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": [443, "8000-8999"], "plainHttp": true,
    }));
    for (url, strict_ok, open_ok) in [
        ("https://example.com/hook", true, true),
        ("https://example.com:443/", true, true),
        ("https://example.com:8443/", false, true),
        ("https://example.com:9000/", false, false),
        ("http://example.com:8080/", false, true),
        ("http://example.com/", false, false),
        ("ftp://example.com/", false, false),
        ("https://user@example.com/", false, false),
        ("https://:pw@example.com/", false, false),
        ("https://1.1.1.1/", true, true),
        ("https://127.0.0.1/", false, true),
        ("https://localhost/", false, true),
        ("https://localhost./", false, true),
        ("https://a.localhost./", false, true),
        ("https://[::1]/", false, false),
        ("https://[::ffff:127.0.0.1]/", false, true),
        ("https://169.254.169.254/", false, false),
        ("https://[::ffff:a9fe:a9fe]/", false, false),
    ] {
        let parsed = Url::parse(url).unwrap();
        assert_eq!(strict.check_url(&parsed).is_ok(), strict_ok, "strict: {url}");
        assert_eq!(open.check_url(&parsed).is_ok(), open_ok, "open: {url}");
    }
}

/// URLs of the SSRF lists of PayloadsAllTheThings and ssrf-req-filter that name an address. Hosts that only resolve to
/// one, such as 127.0.0.1.nip.io, are the resolver's business.
const CORPUS: [&str; 60] = [
    "http://127.0.0.1:80",
    "http://127.0.0.1:22",
    "http://0.0.0.0:443",
    "http://localhost:80",
    "http://LOCALHOST.:80",
    "http://[::]:25/",
    "http://[::1]/",
    "http://0000::1:3128",
    "http://127.127.127.127",
    "http://127.0.1.3",
    "http://127.0.0.0",
    "http://0177.0.0.1",
    "http://0177.0.0.1.",
    "http://0x7f.0x0.0x0.0x1",
    "http://0x7f.1",
    "http://2130706433",
    "http://2130706433.",
    "http://017700000001",
    "http://3232235521",
    "http://3232235777",
    "http://[0:0:0:0:0:ffff:127.0.0.1]",
    "http://[::127.0.0.1]",
    "http://[::ffff:0:127.0.0.1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b:1::1]",
    "http://[2002:7f00:1::]",
    "http://[2001:0:1::1]",
    "http://[fec0::1]",
    "http://[3fff::1]",
    "http://[5f00::1]",
    "http://[ff00::1]",
    "http://[fc00::1]",
    "http://[0100::1]",
    "http://[::1%25eth0]",
    "http://0",
    "http://127.1",
    "http://127.0.1",
    "http://127.1.1.1:80@127.2.2.2:80",
    "http://127.1.1.1:80@@127.2.2.2:80",
    "http://127.1.1.1:80:@@127.2.2.2:80",
    "http://127.1.1.1:80#@127.2.2.2:80",
    "http://127.1.1.1:80\\@127.2.2.2:80/",
    "http://127.1.1.1:80#\\@127.2.2.2:80/",
    "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
    "http://169.254.169.254/latest/meta-data/hostname",
    "http://2852039166",
    "http://0xA9.0xFE.0xA9.0xFE",
    "http://0xA9FEA9FE",
    "http://0251.0376.0251.0376",
    "http://0251.00376.000251.0000376",
    "http://0251.254.169.254",
    "http://425.510.425.510",
    "http://7147006462",
    "http://0x41414141A9FEA9FE",
    "http://%31%32%37.0.0.1",
    "http://①②⑦.⓪.⓪.①",
    "http://１２７。０。０。１",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "http://127.0.0.1\t.example.com:80\r\n@10.0.0.1",
    "gopher://127.0.0.1:25/x",
];

#[test]
fn no_url_of_the_published_lists_is_let_through() {
    let policy = policy(json!({ "allowedPorts": ["1-65535"], "plainHttp": true }));
    for text in CORPUS {
        let allowed = Url::parse(text).ok().filter(|url| policy.check_url(url).is_ok());
        assert_eq!(allowed, None, "{text}");
    }
}

/// A part of an IPv4 address in one of the forms that URL parsers read.
fn part(value: u64, form: u8) -> String {
    match form % 5 {
        0 => format!("0{value:o}"),
        1 => format!("0x{value:X}"),
        2 => format!("%3{}{}", value.to_string().remove(0), &value.to_string()[1..]),
        3 => value.to_string().chars().map(|digit| char::from_u32(digit as u32 + 0xfee0).unwrap()).collect(),
        _ => value.to_string(),
    }
}

/// A spelling of an IPv4 address in one to four parts.
fn spelling(v4: Ipv4Addr, parts: usize, forms: [u8; 4], dot: bool) -> String {
    let octets = v4.octets();
    let (first, last) = octets.split_at(parts - 1);
    let last = last.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
    let parts = first.iter().map(|octet| u64::from(*octet)).chain([last]);
    let parts: Vec<_> = parts.zip(forms).map(|(value, form)| part(value, form)).collect();
    parts.join(".") + if dot { "." } else { "" }
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    let special = prop::sample::select(vec![0x7f00_0001_u32, 0x0a00_0001, 0xa9fe_a9fe, 0xa83f_8110, 0xc0a8_0101]);
    prop_oneof![any::<u32>(), special].prop_map(Ipv4Addr::from_bits)
}

fn address() -> impl Strategy<Value = IpAddr> {
    let carried = (v4(), any::<prop::sample::Index>()).prop_map(|(v4, index)| *index.get(&carriers(v4)));
    prop_oneof![v4().prop_map(IpAddr::from), any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())), carried]
}

proptest! {
    /// However an address is spelled, the URL is judged as the address is.
    #[test]
    fn a_url_is_judged_by_the_address_that_it_spells(
        v4 in v4(), parts in 1..=4usize, forms: [u8; 4], dot: bool,
    ) {
        let url = Url::parse(&format!("https://{}/", spelling(v4, parts, forms, dot))).unwrap();
        prop_assert_eq!(url.host(), Some(Host::Ipv4(v4)));
        for policy in [EgressPolicy::default(), all()] {
            prop_assert_eq!(policy.check_url(&url), policy.check_address(v4.into()));
        }
    }

    /// No form of an address is allowed whose IPv4 address is not, unless a network of the settings has the form.
    #[test]
    fn a_carried_address_is_no_way_around_the_rules(v4 in v4()) {
        let (standard, all) = (EgressPolicy::default(), all());
        for carrier in carriers(v4) {
            prop_assert!(standard.check_address(carrier).is_err() || standard.check_address(v4.into()).is_ok());
            prop_assert!(all.check_address(carrier).is_err() || all.check_address(v4.into()).is_ok());
        }
    }

    /// Hosts and denied networks only narrow, and allowed networks only widen.
    #[test]
    fn rules_narrow_or_widen(address in address(), denied in any::<u32>(), prefix in 0..=32u8) {
        let net = format!("{}/{prefix}", Ipv4Addr::from_bits(denied));
        let host = if let IpAddr::V6(v6) = address { format!("[{v6}]") } else { address.to_string() };
        let url = Url::parse(&format!("https://{host}/")).unwrap();
        let check = |settings: Value| policy(settings).check_url(&url).is_ok();
        let plain = check(json!({}));
        let (other, same) = (check(json!({ "allowedHosts": ["example.com"] })), check(json!({ "allowedHosts": [host] })));
        prop_assert_eq!((other, same), (false, plain));
        let (fewer, more) = (check(json!({ "deniedCIDRs": [net] })), check(json!({ "allowedCIDRs": [net] })));
        prop_assert!(fewer <= plain && plain <= more);
        prop_assert_eq!(plain, EgressPolicy::default().check_address(address).is_ok());
    }
}

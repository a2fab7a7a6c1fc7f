//! Targets that nobody may call: each class of address, in each spelling, in each place.

use crate::receiver::{AMPLE, Receiver, answering, by_name, client, named, post};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Every IPv4 and IPv6 address.
const EVERYTHING: &str = "0.0.0.0/0,::/0";

/// First and last address of each range that is not public.
const NOT_PUBLIC: [(&str, &str); 14] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
];

/// One address of each class, and those that are worth the most to an attacker.
const VICTIMS: [&str; 20] = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.9.10",
    "169.254.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
];

const NOT_PUBLIC_V6: [&str; 19] = [
    "::1",
    "::2:0:0",
    "100::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff::",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "4000::",
    "5f00::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fec0::1",
    "fe00::1",
];

/// Refused whatever is allowed.
const NEVER: [&str; 22] = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "::",
    "fd00:ec2::",
    "fd00:ec2::23",
    "fd00:ec2::254",
    "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ff00::",
    "ff02::1",
    "ff0e::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// The IPv6 addresses that stand for an IPv4 address.
fn embeddings(victim: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = victim.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, high, low >> 8, low << 8, 0, 0),
        Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0, 1),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0x200, 0x5efe, high, low),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0x5efe, high, low),
    ]
}

/// The address in every way of writing it that somebody's parser takes, except the usual one.
fn disguises(victim: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = victim.octets();
    let whole = u32::from(victim);
    let (last_two, last_three) = (whole & 0xffff, whole & 0xff_ffff);
    let wide = |text: String, zero: u32| -> String {
        let digit = |c: char| c.to_digit(10).and_then(|value| char::from_u32(zero + value)).unwrap_or(c);
        text.chars().map(digit).collect()
    };
    let mut disguises = vec![
        format!("{whole}"),
        format!("0{whole}"),
        format!("0{whole:o}"),
        format!("0x{whole:x}"),
        format!("0X{whole:08X}"),
        format!("0x{:x}", u64::from(whole) + (1 << 32)),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0X{a:02X}.0X{b:02X}.0X{c:02X}.0X{d:02X}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:03}.{b:03}.{c:03}.0{d:03}"),
        format!("0x{a:x}.{b}.0{c:o}.0{d}"),
        format!("{a}.{b}.{c}.0x{d:x}"),
        format!("{a}.{last_three}"),
        format!("{a}.{b}.{last_two}"),
        format!("{a}.0x{last_three:x}"),
        format!("0x{a:x}.{b}.0{last_two:o}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{a}.{b}.{c}.{d}.."),
        format!("{a}..{b}.{c}.{d}"),
        format!(".{a}.{b}.{c}.{d}"),
        format!("{a}%2e{b}%2E{c}%2e{d}"),
        format!("{victim}").bytes().map(|byte| format!("%{byte:02x}")).collect(),
        format!("{a}\u{3002}{b}\u{3002}{c}\u{3002}{d}"),
        format!("{a}\u{ff0e}{b}\u{ff61}{c}.{d}"),
        wide(victim.to_string(), 0xff10),
        wide(victim.to_string(), 0x0660),
        wide(victim.to_string(), 0x1d7d8),
        format!("{victim}%00.hooks.example"),
        format!("{victim}\u{0}.hooks.example"),
        format!("{victim}%25eth0"),
        format!("[{victim}]"),
        format!("[::{victim}]"),
        format!("[::FFFF:{victim}]"),
        format!("[0:0:0:0:0:ffff:{victim}]"),
        format!("[::ffff:{victim}%25eth0]"),
        format!("[64:ff9b::{victim}]"),
        format!("hooks.example@{victim}"),
        format!("hooks.example:443@{victim}"),
        format!("hooks.example\\@{victim}"),
        format!("{victim}\\.hooks.example"),
        format!("{victim}#.hooks.example"),
        format!("{victim}:443:80"),
        format!(" {victim}"),
        format!("{victim}\t"),
        format!("\r\n{victim}"),
        format!("/{victim}"),
        format!("\u{ad}{victim}"),
    ];
    disguises.extend(embeddings(victim).iter().map(|address| format!("[{address}]")));
    // Not every class has every disguise: the address 0.0.0.0 with leading zeros is its own decimal.
    disguises.sort();
    disguises.dedup();
    disguises
}

/// An IPv6 address in other spellings than the usual one.
fn respellings(address: Ipv6Addr) -> Vec<String> {
    let groups = address.segments();
    let full = groups.map(|group| format!("{group:04x}")).join(":");
    let long = groups.map(|group| format!("{group:x}")).join(":");
    let usual = address.to_string();
    let spellings = [
        format!("[{full}]"),
        format!("[{long}]"),
        format!("[{}]", full.to_uppercase()),
        format!("[{}]", usual.to_uppercase()),
        format!("[{usual}%25eth0]"),
        format!("[{usual}%eth0]"),
        format!("[{usual}%1]"),
        format!("[{usual}%25]"),
        format!("[{usual}."),
        format!("[{usual}].hooks.example"),
        format!("[ {usual}]"),
        format!("[[{usual}]]"),
        format!("%5B{usual}%5D"),
        usual.clone(),
    ];
    let usual = format!("[{usual}]");
    BTreeSet::from(spellings).into_iter().filter(|spelling| *spelling != usual).collect()
}

fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn places(host: &str, port: u16) -> [String; 4] {
    [
        format!("https://{host}/hook"),
        format!("https://{host}:8443"),
        format!("https://{host}?to=https://hooks.example/"),
        format!("http://{host}:{port}/hook"),
    ]
}

fn all(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// Refused at registration and, in the same words, at an attempt; nobody is asked or called.
async fn refused(targets: &BTreeSet<String>, networks: &str, receiver: &Receiver) {
    let (resolver, asked) = answering(&[receiver.address.ip()]);
    let client = client(networks, &[], resolver);
    for target in targets {
        let Err(refused) = client.check(target).await else { panic!("{target:?} may be registered") };
        let attempted = post(&client, target, AMPLE).await;
        assert_eq!(attempted.error, Some(refused.to_string()), "{target:?}");
        assert_eq!((attempted.status, attempted.timed_out), (None, false), "{target:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a resolver was asked for what is refused as written");
    assert_eq!(receiver.connections(), 0, "somebody was called");
}

#[tokio::test]
async fn an_address_that_is_not_public_is_refused_in_its_usual_spelling() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let edges = NOT_PUBLIC.iter().flat_map(|(first, last)| [*first, *last]);
    let addresses: Vec<&str> = edges.chain(VICTIMS).chain(NOT_PUBLIC_V6).chain(NEVER).collect();
    let hosts = all(&addresses).into_iter().map(written);
    let targets: BTreeSet<String> = hosts.flat_map(|host| places(&host, receiver.port())).collect();
    assert!(targets.len() > 300, "{}", targets.len());
    refused(&targets, "", &receiver).await;
}

#[tokio::test]
async fn a_disguised_address_is_refused_even_where_everything_is_allowed() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let victims = VICTIMS.iter().map(|victim| victim.parse().unwrap());
    let hosts: BTreeSet<String> = victims.flat_map(disguises).collect();
    let targets: BTreeSet<String> = hosts.iter().flat_map(|host| places(host, receiver.port())).collect();
    assert!(hosts.len() > 900 && targets.len() == 4 * hosts.len(), "{} {}", hosts.len(), targets.len());
    refused(&targets, EVERYTHING, &receiver).await;
}

#[tokio::test]
async fn an_ipv6_address_is_refused_in_any_spelling_but_the_usual_one() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let usual = ["::1", "fd12::1", "2606:4700:4700::1111", "2001:db8::a:b", "fd00:ec2::254", "fe80::1"];
    let hosts: Vec<String> = usual.iter().flat_map(|address| respellings(address.parse().unwrap())).collect();
    let targets: BTreeSet<String> = hosts.iter().flat_map(|host| places(host, receiver.port())).collect();
    assert!(targets.len() > 250, "{}", targets.len());
    refused(&targets, EVERYTHING, &receiver).await;
}

#[tokio::test]
async fn what_is_never_called_is_refused_even_where_everything_is_allowed() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let hosts = all(&NEVER).into_iter().map(written);
    let targets: BTreeSet<String> = hosts.flat_map(|host| places(&host, receiver.port())).collect();
    assert_eq!(targets.len(), 4 * NEVER.len());
    refused(&targets, EVERYTHING, &receiver).await;
}

#[tokio::test]
async fn a_text_that_needs_repair_is_refused_and_not_repaired() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let port = receiver.port();
    let mut targets: BTreeSet<String> = [
        "",
        "https",
        "https:",
        "https:/",
        "https://",
        "https:///",
        "https:hooks.example",
        "https:/hooks.example",
        "https:///hooks.example",
        "https:////hooks.example",
        "https:\\\\hooks.example",
        "https:/\\hooks.example",
        "HTTPS://hooks.example",
        "Https://hooks.example",
        "HTTP://localhost",
        "https ://hooks.example",
        "//hooks.example",
        "/hook",
        "hooks.example",
        "hooks.example:443",
        "ftp://hooks.example",
        "file:///etc/passwd",
        "file://localhost/",
        "gopher://hooks.example",
        "javascript:alert(1)",
        "data:,x",
        "ws://hooks.example",
        "wss://hooks.example",
        "http+unix://%2Frun%2Fx",
        "unix:/run/x",
        "view-source:https://hooks.example",
        "httpss://hooks.example",
        "\u{feff}https://hooks.example",
        "https\u{3a}\u{2f}\u{ff0f}hooks.example",
        "blob:https://hooks.example/x",
        "https://user@hooks.example/",
        "https://user:secret@hooks.example/",
        "https://:secret@hooks.example/",
        "https://@hooks.example/",
        "https://:@hooks.example/",
        "https://a@b@hooks.example/",
        "https://user%40hooks.example@x/",
        "https://hooks.example#",
        "https://hooks.example/#part",
        "https://hooks.example/?a#b",
        "https://#hooks.example",
        "https://hooks.example\\hook",
        "https://hooks.example/\\hook",
        "https://hooks.example/a?b\\c",
        "https://hooks.example:",
        "https://hooks.example:/",
        "https://hooks.example:0/",
        "https://hooks.example:00443/",
        "https://hooks.example:0443/",
        "https://hooks.example:+443/",
        "https://hooks.example:-443/",
        "https://hooks.example:443x/",
        "https://hooks.example:x443/",
        "https://hooks.example:0x1bb/",
        "https://hooks.example:65536/",
        "https://hooks.example:65979/",
        "https://hooks.example:4294967739/",
        "https://hooks.example:443:443/",
        "https://hooks.example:%34%34%33/",
        "https://hooks.example:\u{ff14}43/",
        "https://[]/",
        "https://[/",
        "https://]/",
        "https://[hooks.example]/",
        "https://[v1.x]/",
        "https://[::1/",
        "https://::1]/",
        "https://[::1]443/",
        "https://[::1]x:443/",
        "https://[::1]]/",
        "https://[:::1]/",
        "https://[1:2:3]/",
        "https://[1:2:3:4:5:6:7:8:9]/",
        "https://[::g]/",
        "https://[::12345]/",
        "https://[::1::]/",
        "https://x[::1]/",
        "https://./",
        "https://../",
        "https://.hooks.example/",
        "https://hooks.example./",
        "https://hooks..example/",
        "https://-hooks.example/",
        "https://hooks-.example/",
        "https://hooks.example-/",
        "https://hooks.-example/",
        "https://hooks,example/",
        "https://hooks;example/",
        "https://hooks!example/",
        "https://hooks'example/",
        "https://hooks*example/",
        "https://*.example/",
        "https://hooks=example/",
        "https://hooks&example/",
        "https://hooks$example/",
        "https://hooks~example/",
        "https://(hooks)/",
        "https://hooks|example/",
        "https://hooks^example/",
        "https://hooks`example/",
        "https://{hooks}/",
        "https://<hooks>/",
        "https://hooks\"/",
        "https://hooks%2eexample/",
        "https://%68ooks.example/",
        "https://hooks.example%00/",
        "https://hooks.example%2f/",
        "https://hooks.example%23.x/",
        "https://h\u{f6}oks.example/",
        "https://\u{3c7}.example/",
        "https://ho\u{200b}oks.example/",
        "https://hooks.example\u{2044}x/",
        "https://\u{24d6}oogle.example/",
        "https://hooks\u{3002}example/",
        "https://1.2.3/",
        "https://1.2.3.4.5/",
        "https://256.256.256.256/",
        "https://1.2.3.256/",
        "https://1.2.3.-4/",
        "https://1/",
        "https://0/",
        "https://00/",
        "https://0x/",
        "https://0X/",
        "https://0x.0x/",
        "https://99999999999/",
        "https://hooks.example.1/",
        "https://hooks.0x7f/",
        "https://hooks.0X7F/",
        "https://hooks.0x/",
        "https://hooks.08/",
        "https://hooks.example/\u{e9}",
        "https://hooks.example/\u{1f600}",
        "https://hooks.example/?q=\u{e9}",
        "https://hooks.example/<script>",
        "https://hooks.example/a`b",
    ]
    .map(str::to_owned)
    .into();
    targets.extend([
        format!("https://{}.example/", "a".repeat(64)),
        format!("https://{}a/", "a.".repeat(127)),
        format!("https://hooks.example/{}", "a".repeat(2048 - "https://hooks.example/".len() + 1)),
    ]);
    for blank in
        [" ", "\t", "\n", "\r", "\r\n", "\0", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}", "\u{85}", "\u{a0}", "\u{2028}"]
    {
        for place in [
            format!("{blank}https://hooks.example:{port}/hook"),
            format!("https:{blank}//hooks.example:{port}/hook"),
            format!("https://{blank}hooks.example:{port}/hook"),
            format!("https://hooks{blank}.example:{port}/hook"),
            format!("https://hooks.example{blank}:{port}/hook"),
            format!("https://hooks.example:{port}{blank}/hook"),
            format!("https://hooks.example:{port}/ho{blank}ok"),
            format!("https://hooks.example:{port}/hook?a={blank}"),
            format!("https://hooks.example:{port}/hook{blank}"),
        ] {
            targets.insert(place.replace("https", "http"));
            targets.insert(place);
        }
    }
    assert!(targets.len() > 350, "{}", targets.len());
    refused(&targets, EVERYTHING, &receiver).await;
}

#[tokio::test]
async fn plain_http_and_other_ports_are_refused_unasked_where_no_network_is_allowed() {
    let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let hosts = ["hooks.example", "localhost", "1.1.1.1", "[2606:4700:4700::1111]"];
    let ports = ["", ":80", ":443", ":8443"].map(|port| ("http", port));
    let others = [":1", ":22", ":25", ":80", ":442", ":444", ":6379", ":8080", ":8442", ":8444", ":65535"];
    let ways: Vec<(&str, &str)> = ports.into_iter().chain(others.map(|port| ("https", port))).collect();
    let targets: BTreeSet<String> = hosts
        .iter()
        .flat_map(|host| ways.iter().map(move |(scheme, port)| format!("{scheme}://{host}{port}/")))
        .collect();
    assert_eq!(targets.len(), hosts.len() * ways.len());
    refused(&targets, "", &receiver).await;
}

#[tokio::test]
async fn a_name_is_refused_for_any_answer_that_may_not_be_called() {
    let public: [IpAddr; 2] = ["1.1.1.1".parse().unwrap(), "2606:4700:4700::1111".parse().unwrap()];
    let edges = NOT_PUBLIC.iter().flat_map(|(first, last)| [*first, *last]);
    let plain: Vec<&str> = edges.chain(VICTIMS).chain(NOT_PUBLIC_V6).collect();
    let embedded = VICTIMS.iter().flat_map(|victim| embeddings(victim.parse().unwrap())).map(IpAddr::from);
    let never: Vec<IpAddr> = all(&NEVER).into_iter().chain(embedded).collect();
    for (bad, networks) in [(all(&plain), ""), (never, EVERYTHING)] {
        let (resolver, asked) = by_name();
        let client = client(networks, &[], resolver);
        for bad in bad {
            for answers in [vec![bad], vec![bad, public[0]], vec![public[0], public[1], bad]] {
                let name = named(&answers);
                let url = format!("https://{name}/");
                let Err(refused) = client.check(&url).await else { panic!("{answers:?}") };
                let attempted = post(&client, &url, AMPLE).await;
                assert_eq!(attempted.error, Some(refused.to_string()), "{answers:?}");
                let expected = format!("{name} resolves to an address that ");
                assert!(refused.to_string().starts_with(&expected), "{refused}");
                assert!(!refused.to_string().contains(&bad.to_string()), "{refused}");
                assert_eq!(asked.swap(0, Ordering::SeqCst), 2, "once at registration, once at the attempt");
            }
        }
    }
}

/// The neighbours of what is refused.
fn neighbours() -> Vec<IpAddr> {
    let refused: Vec<(u32, u32)> = NOT_PUBLIC
        .iter()
        .map(|(first, last)| (first.parse::<Ipv4Addr>().unwrap().into(), last.parse::<Ipv4Addr>().unwrap().into()))
        .collect();
    let before = refused.iter().filter_map(|(first, _)| first.checked_sub(1));
    let after = refused.iter().filter_map(|(_, last)| last.checked_add(1));
    let v4 = before.chain(after).map(|address| IpAddr::V4(address.into()));
    let v6 = [
        "2000::",
        "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:200::",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2003::",
        "2606:4700::5eff:a00:1",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
        "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    v4.chain(all(&v6)).collect()
}

#[tokio::test]
async fn the_neighbours_of_what_is_refused_may_be_registered_as_literals_and_as_answers() {
    let neighbours = neighbours();
    assert_eq!(neighbours.len(), 26 + 11);
    let (resolver, asked) = by_name();
    let client = client("", &[], resolver);
    for address in neighbours {
        assert_eq!(client.check(&format!("https://{}/", written(address))).await, Ok(()));
        assert_eq!(asked.swap(0, Ordering::SeqCst), 0);
        assert_eq!(client.check(&format!("https://{}:8443/", named(&[address]))).await, Ok(()), "{address}");
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_right_target_may_be_registered() {
    let (resolver, _) = answering(&["1.1.1.1".parse().unwrap()]);
    let client = client("", &[], resolver);
    let longest = format!("https://hooks.example/{}", "a".repeat(2048 - "https://hooks.example/".len()));
    let longest_name = format!("https://{}aaa/", "a.".repeat(125));
    for target in [
        "https://hooks.example",
        "https://hooks.example/",
        "https://hooks.example:443/",
        "https://hooks.example:8443",
        "https://HOOKS.Example/",
        "https://hooks_a.x--y.example/",
        "https://xn--hks-2na5c.example/",
        "https://intranet/",
        "https://127.0.0.1.nip.io/",
        "https://0x7f.example/",
        "https://1.2.3.4.5.example/",
        "https://hooks.0x7g/",
        "https://hooks.example?a=b",
        "https://hooks.example/?a=b&c=%20d",
        "https://hooks.example//x/../y/@user:z",
        "https://hooks.example/%00%0d%0a",
        "https://hooks.example/a^b",
        "https://hooks.example/{id}?u=https://10.0.0.1/",
        &longest,
        &longest_name,
    ] {
        assert_eq!(client.check(target).await, Ok(()), "{target}");
    }
}

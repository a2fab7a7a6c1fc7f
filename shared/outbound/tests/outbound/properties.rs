//! What holds for any text and any answer.

use crate::receiver::{AMPLE, Receiver, answering, by_name, client, named, post};
use countersign_outbound::Outbound;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};
use url::Url;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Made once: reading the system's authorities takes longer than a case.
static EVERYWHERE: LazyLock<Outbound> =
    LazyLock::new(|| client("0.0.0.0/0,::/0", &[], answering(&["1.1.1.1".parse().unwrap()]).0));
static PUBLIC: LazyLock<Outbound> = LazyLock::new(|| client("", &[], by_name().0));
static LOCAL: LazyLock<Outbound> = LazyLock::new(|| client("127.0.0.0/8", &[], by_name().0));

/// Globally routable unicast, told once more from the numbers.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(
            address.octets(),
            [0 | 10 | 127 | 224..=255, ..]
                | [100, 64..=127, ..]
                | [169, 254, ..]
                | [172, 16..=31, ..]
                | [192, 168, ..]
                | [192, 0, 0 | 2, _]
                | [192, 88, 99, _]
                | [198, 18 | 19, ..]
                | [198, 51, 100, _]
                | [203, 0, 113, _]
        ),
        IpAddr::V6(address) => match address.segments() {
            [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => false,
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
            [first, ..] => first >> 13 == 1,
        },
    }
}

/// Any address, many of them near the edges that matter.
fn address() -> impl Strategy<Value = IpAddr> {
    let first = prop_oneof![
        Just(0u8),
        Just(10),
        Just(100),
        Just(127),
        Just(169),
        Just(172),
        Just(192),
        Just(198),
        Just(203),
        any::<u8>()
    ];
    let second = prop_oneof![Just(0u8), Just(18), Just(51), Just(64), Just(88), Just(168), Just(254), any::<u8>()];
    let third = prop_oneof![Just(0u8), Just(2), Just(99), Just(100), Just(113), any::<u8>()];
    let v4 = (first, second, third, any::<u8>()).prop_map(|(a, b, c, d)| IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    let group = prop_oneof![
        Just(0u16),
        Just(1),
        Just(0x64),
        Just(0x200),
        Just(0xdb8),
        Just(0xec2),
        Just(0x2001),
        Just(0x2002),
        Just(0x2606),
        Just(0x3fff),
        Just(0x5efe),
        Just(0xfd00),
        Just(0xfe80),
        Just(0xff9b),
        Just(0xffff),
        any::<u16>()
    ];
    let v6 = proptest::array::uniform8(group).prop_map(|groups| IpAddr::V6(Ipv6Addr::from(groups)));
    prop_oneof![v4, v6, any::<IpAddr>()]
}

fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("https://{address}/"),
        IpAddr::V6(address) => format!("https://[{address}]/"),
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused_and_no_more(text in any::<String>(), rest in "[ -~]{0,40}") {
                runtime().block_on(async {
            for target in [text.clone(), format!("https://{text}"), format!("https://{rest}"), format!("http://[{rest}")] {
                let _ = EVERYWHERE.check(&target).await;
            }
        });
    }

    #[test]
    fn what_is_taken_is_read_the_same_by_a_lenient_parser(
        host in prop_oneof!["[0-9a-fA-FxX.:%@_\\[\\]-]{1,16}", "[0-9.]{1,16}", "\\[[0-9a-f:.]{2,20}\\]", "[ -~]{1,16}"],
        port in prop_oneof![Just(String::new()), "(:[0-9]{0,6})?"],
        path in "[/?][ -~]{0,20}",
    ) {
        let target = format!("https://{host}{port}{path}");
        if runtime().block_on(EVERYWHERE.check(&target)).is_ok() {
            let read: Url = target.parse().unwrap();
            let (authority, _) = target["https://".len()..].split_once(['/', '?']).unwrap();
            let host = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(host, _)| host);
            prop_assert_eq!(read.host_str().map(str::to_owned), Some(host.to_ascii_lowercase()));
            let port = authority.strip_prefix(host).and_then(|port| port.strip_prefix(':')).unwrap_or("443");
            prop_assert_eq!(read.port_or_known_default(), port.parse().ok());
            prop_assert_eq!((read.username(), read.password(), read.fragment()), ("", None, None));
        }
    }

    #[test]
    fn an_address_may_be_called_exactly_if_it_is_public(address in address()) {
        let taken = runtime().block_on(async {
            let named = PUBLIC.check(&format!("https://{}/", named(&[address]))).await;
            let written = PUBLIC.check(&literal(address)).await;
            assert_eq!(named.is_ok(), written.is_ok());
            named.is_ok()
        });
        prop_assert_eq!(taken, is_public(address));
    }

    #[test]
    fn a_name_may_be_called_exactly_if_all_its_addresses_may(addresses in vec(address(), 1..6)) {
        let taken = runtime().block_on(PUBLIC.check(&format!("https://{}/", named(&addresses)))).is_ok();
        prop_assert_eq!(taken, addresses.iter().all(|address| is_public(*address)));
    }

    #[test]
    fn nobody_is_called_if_one_address_may_not_be(good in 0usize..4, bad in vec(address(), 1..3), place in any::<prop::sample::Index>()) {
        runtime().block_on(async {
            let receiver = Receiver::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
            // Plain HTTP is only for the allowed network, so any address outside it may not be called, public or not.
            let bad = bad.into_iter().filter(|address| !matches!(address, IpAddr::V4(address) if address.is_loopback()));
            let mut answers = vec![receiver.address.ip(); good];
            for address in bad {
                answers.insert(place.index(answers.len() + 1), address);
            }
            let innocent = answers.iter().all(|address| *address == receiver.address.ip());
            let attempted = post(&LOCAL, &format!("http://{}:{}/", named(&answers), receiver.port()), AMPLE).await;
            assert_eq!(attempted.succeeded(), innocent && good > 0, "{answers:?} {attempted:?}");
            assert_eq!(receiver.connections(), usize::from(innocent && good > 0));
        });
    }
}

//! The co-signature verifies what was signed and nothing that differs from it in any part.

use countersign_domain::cosignature::{sign, verify};
use countersign_domain::override_token::{Decision, EventId};
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

/// Secrets are text. Binary ones would include pairs that differ in trailing zeros only, which HMAC takes for one.
fn secret() -> impl Strategy<Value = String> {
    "[ -~]{1,80}"
}

fn event_id() -> impl Strategy<Value = EventId> {
    "[A-Za-z0-9._:-]{1,128}".prop_map(|id| id.parse().unwrap())
}

fn decision() -> impl Strategy<Value = Decision> {
    "[a-z][a-z0-9_]{0,31}".prop_map(|name| name.parse().unwrap())
}

fn jti() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// Everything that a co-signature depends on.
#[derive(Clone, Debug, PartialEq)]
struct Signed {
    secret: String,
    event_id: EventId,
    decision: Decision,
    jti: Uuid,
}

impl Signed {
    fn cosignature(&self) -> String {
        sign(self.secret.as_bytes(), &self.event_id, &self.decision, self.jti)
    }

    fn accepts(&self, cosignature: &str) -> bool {
        verify([self.secret.as_bytes()], &self.event_id, &self.decision, self.jti, cosignature)
    }
}

fn signed() -> impl Strategy<Value = Signed> {
    (secret(), event_id(), decision(), jti()).prop_map(|(secret, event_id, decision, jti)| Signed {
        secret,
        event_id,
        decision,
        jti,
    })
}

/// `text` with one of its characters replaced.
fn with_another(text: &str, position: Index, replacement: char) -> String {
    let position = position.index(text.len());
    format!("{}{replacement}{}", &text[..position], &text[position + 1..])
}

proptest! {
    #[test]
    fn what_was_signed_verifies(signed in signed()) {
        let cosignature = signed.cosignature();
        prop_assert!(signed.accepts(&cosignature));
        prop_assert_eq!(cosignature.len(), 64);
        prop_assert!(cosignature.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    }

    #[test]
    fn it_verifies_with_any_of_several_secrets(
        signed in signed(),
        others in proptest::collection::vec(secret(), 0..4),
        place in any::<Index>(),
    ) {
        let mut secrets: Vec<_> = others.iter().map(|other| other.as_bytes()).collect();
        secrets.insert(place.index(secrets.len() + 1), signed.secret.as_bytes());
        prop_assert!(verify(secrets, &signed.event_id, &signed.decision, signed.jti, &signed.cosignature()));
    }

    #[test]
    fn another_secret_event_decision_or_jti_does_not_verify(signed in signed(), other in signed()) {
        let cosignature = signed.cosignature();
        for changed in [
            Signed { secret: other.secret.clone(), ..signed.clone() },
            Signed { event_id: other.event_id.clone(), ..signed.clone() },
            Signed { decision: other.decision.clone(), ..signed.clone() },
            Signed { jti: other.jti, ..signed.clone() },
        ] {
            prop_assert_eq!(changed.accepts(&cosignature), changed == signed);
        }
    }

    #[test]
    fn one_other_character_in_any_part_does_not_verify(
        signed in signed(),
        position in any::<Index>(),
        letter in proptest::char::range('a', 'z'),
        bit in 0..128_u32,
    ) {
        let cosignature = signed.cosignature();
        let event_id = with_another(signed.event_id.as_str(), position, letter).parse().unwrap();
        let decision = with_another(signed.decision.as_str(), position, letter).parse().unwrap();
        for changed in [
            Signed { secret: with_another(&signed.secret, position, letter), ..signed.clone() },
            Signed { event_id, ..signed.clone() },
            Signed { decision, ..signed.clone() },
            Signed { jti: Uuid::from_u128(signed.jti.as_u128() ^ 1 << bit), ..signed.clone() },
        ] {
            prop_assert_eq!(changed.accepts(&cosignature), changed == signed);
        }
    }

    #[test]
    fn one_other_character_in_the_cosignature_does_not_verify(
        signed in signed(),
        position in any::<Index>(),
        replacement in any::<char>(),
        hex in "[0-9a-fA-F]",
    ) {
        let cosignature = signed.cosignature();
        for replacement in [replacement, hex.chars().next().unwrap()] {
            let changed = with_another(&cosignature, position, replacement);
            prop_assert_eq!(signed.accepts(&changed), changed == cosignature, "{}", changed);
        }
    }

    #[test]
    fn a_shorter_or_longer_cosignature_does_not_verify(signed in signed(), length in 0..64_usize, more in "[0-9a-f]{1,64}") {
        let cosignature = signed.cosignature();
        let (behind, before) = (format!("{cosignature}{more}"), format!("{more}{cosignature}"));
        for changed in [&cosignature[..length], &behind, &before] {
            prop_assert!(!signed.accepts(changed), "{}", changed);
        }
    }

    #[test]
    fn no_other_text_verifies(signed in signed(), text in any::<String>()) {
        prop_assert!(!signed.accepts(&text));
    }
}

fn an_approval() -> Signed {
    Signed {
        secret: "test-override-secret".to_owned(),
        event_id: "evt-1".parse().unwrap(),
        decision: "approve".parse().unwrap(),
        jti: Uuid::nil(),
    }
}

#[test]
fn it_verifies_while_the_previous_secret_is_the_current_one() {
    let signed = an_approval();
    let secrets = [signed.secret.as_bytes(); 2];
    assert!(verify(secrets, &signed.event_id, &signed.decision, signed.jti, &signed.cosignature()));
}

#[test]
fn every_single_letter_in_upper_case_is_refused() {
    let signed = an_approval();
    let cosignature = signed.cosignature();
    for (position, letter) in cosignature.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
        let mut changed = cosignature.clone();
        changed.replace_range(position..=position, &letter.to_uppercase().to_string());
        assert!(!signed.accepts(&changed), "{changed}");
    }
}

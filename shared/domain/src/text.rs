//! What counts as acceptable text in a request, shared by every rule that takes some.

use uuid::Uuid;

/// Reads a UUID in its hyphenated form of 36 characters, in either case; `None` for any other spelling.
#[must_use]
pub fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// From here on a JSON number no longer stands for one whole number everywhere.
pub const EXACT_NUMBERS: u64 = 1 << 53;

/// Reads a whole number in its one spelling, no sign and no leading zero, that every JSON reader holds exactly.
#[must_use]
pub fn exact_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number < EXACT_NUMBERS && number.to_string() == text)
}

/// Whether `text` has at most `limit` Unicode scalar values and no control character but line feed and tab.
///
/// # Errors
/// Says which of the two it breaks, as a phrase that follows the field's name.
pub fn check(text: &str, limit: usize) -> Result<(), String> {
    if text.chars().nth(limit).is_some() {
        return Err(format!("must have at most {limit} characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err("must not contain control characters other than line feed and tab".to_owned());
    }
    Ok(())
}

/// Crockford's base 32, as ULIDs are written in.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The 26 digits of the ULID with this number: 48 bits of Unix time in milliseconds, then 80 random ones.
#[must_use]
pub fn ulid(number: u128) -> String {
    (0..26).rev().map(|place| char::from(DIGITS[(number >> (5 * place)) as usize % 32])).collect()
}

/// Whether `text` is a ULID in its one spelling: upper case, and no digit that stands for another.
#[must_use]
pub fn is_ulid(text: &str) -> bool {
    // 26 digits have 130 bits, a ULID 128.
    text.len() == 26 && text.as_bytes()[0] <= b'7' && text.bytes().all(|b| DIGITS.contains(&b))
}

/// What every type has that is a text of its own grammar, each with its error; the grammar is its `FromStr`.
macro_rules! text_of {
    ($($name:ident, $error:ident;)*) => { $(
        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}
pub(crate) use text_of;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_hyphens_and_either_case() {
        assert!(uuid("F4A5B6C7-D8E9-0123-F012-456789012CDE").is_some());
        for text in [
            "f4a5b6c7d8e90123f012456789012cde",
            "{f4a5b6c7-d8e9-0123-f012-456789012cde}",
            "",
            "urn:uuid:x",
            "f4a5b6c7-d8e9-0123-f012-456789012cdg",
            "f4a5b6c7-d8e9-0123-f012-456789012cde ",
        ] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }

    #[test]
    fn an_exact_number_has_one_spelling() {
        assert_eq!((exact_number("0"), exact_number("42")), (Some(0), Some(42)));
        assert_eq!(exact_number("9007199254740991"), Some(EXACT_NUMBERS - 1));
        for text in ["", "007", "+7", "-1", "7.0", " 7", "9007199254740992", "18446744073709551616", "7e0"] {
            assert_eq!(exact_number(text), None, "{text}");
        }
    }

    #[test]
    fn limits_count_characters_and_include_the_limit() {
        assert!(check(&"ü".repeat(10), 10).is_ok());
        assert!(check(&"ü".repeat(11), 10).unwrap_err().contains("10 characters"));
        assert!(check("a\n\tb", 4).is_ok());
        for control in ['\0', '\r', '\u{7f}', '\u{85}', '\u{1b}'] {
            assert!(check(&control.to_string(), 10).unwrap_err().contains("control"), "{control:?}");
        }
    }
}

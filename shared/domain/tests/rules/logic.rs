//! Expressions: what each operator answers, and what is refused when it is written.

use countersign_domain::logic::{EvaluationError, InvalidLogic, Logic, MAX_DEPTH, MAX_OUTPUT, MAX_STEPS};
use serde_json::{Value, json};

const CONTEXT: &str = r#"{
    "one": 1, "zero": 0, "half": 0.5, "yes": true, "no": false, "null": null, "text": "abc", "empty": "", "digits": "12",
    "numbers": [1, 2, 3, 4], "nothing": [], "nested": {"list": [{"name": "deep"}, [10, 20]], "7": "seven"}, "": "unnamed",
    "people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 17}, {"name": "Cem"}],
    "largest": 18446744073709551615, "smallest": -9223372036854775808, "long": "äöü€𝄞"
}"#;

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Enough of a rule to find it by.
pub(crate) fn shown(rule: &Value) -> String {
    rule.to_string().chars().take(200).collect()
}

pub(crate) fn parsed(rule: Value) -> Logic {
    let shown = shown(&rule);
    Logic::parse(rule).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

fn refused(rule: Value) -> InvalidLogic {
    Logic::parse(rule).unwrap_err()
}

pub(crate) fn evaluated(rule: Value, context: &Value) -> Result<Value, EvaluationError> {
    parsed(rule).evaluate(context)
}

/// Each rule has its answer for the context above, compared with the very spelling of its numbers.
fn answers(rows: &[(&str, &str)]) {
    let context = read(CONTEXT);
    for (rule, answer) in rows {
        let found = evaluated(read(rule), &context).map(|value| value.to_string());
        assert_eq!(found, Ok(read(answer).to_string()), "{rule}");
    }
}

/// Each rule has this error for the context above.
fn fails(error: EvaluationError, rules: &[&str]) {
    let context = read(CONTEXT);
    for rule in rules {
        assert_eq!(evaluated(read(rule), &context), Err(error), "{rule}");
        assert_eq!(parsed(read(rule)).matches(&context), Err(error), "{rule}");
    }
}

#[test]
fn scalars_and_lists_stand_for_themselves_and_what_is_in_a_list_is_evaluated() {
    answers(&[
        ("null", "null"),
        ("true", "true"),
        ("1.50", "1.5"),
        (r#""var""#, r#""var""#),
        ("[]", "[]"),
        ("{}", "{}"),
        (r#"[1, [{}, "a"]]"#, r#"[1, [{}, "a"]]"#),
        (r#"[1, {"var": "one"}, [{"var": "text"}]]"#, r#"[1, 1, ["abc"]]"#),
    ]);
}

#[test]
fn the_empty_rule_is_an_empty_object_and_matches_nothing() {
    let rule = parsed(json!({}));
    assert_eq!(rule.evaluate(&read(CONTEXT)), Ok(json!({})));
    assert_eq!(rule.matches(&read(CONTEXT)), Ok(false));
}

#[test]
fn truth_is_as_documented() {
    let falsy = ["null", "false", "0", "-0", "0.0", "-0.0", r#""""#, "[]", "{}"];
    let truthy = ["true", "1", "-1", "0.1", "1e-300", r#""0""#, r#""false""#, r#"" ""#, "[0]", "[[]]", r#"[{}]"#];
    let rows = falsy.map(|value| (value, false)).into_iter().chain(truthy.map(|value| (value, true)));
    for (value, truth) in rows {
        let value = read(value);
        assert_eq!(parsed(value.clone()).matches(&json!({})), Ok(truth), "{value}");
        // In the data as in the rule; and an object with a key can only be in the data.
        assert_eq!(parsed(json!({"var": ""})).matches(&value), Ok(truth), "{value}");
        assert_eq!(evaluated(json!({"!!": [{"var": ""}]}), &value), Ok(truth.into()), "{value}");
        assert_eq!(evaluated(json!({"!": [value]}), &json!({})), Ok((!truth).into()), "{value}");
    }
    assert_eq!(parsed(json!({"var": "nested"})).matches(&read(CONTEXT)), Ok(true));
}

#[test]
fn var_walks_keys_and_indexes() {
    answers(&[
        (r#"{"var": "one"}"#, "1"),
        (r#"{"var": ["one"]}"#, "1"),
        (r#"{"var": "nested.list.0.name"}"#, r#""deep""#),
        (r#"{"var": "nested.list.1.1"}"#, "20"),
        (r#"{"var": "nested.7"}"#, r#""seven""#),
        (r#"{"var": {"cat": ["nested.", "list", ".1.0"]}}"#, "10"),
        (r#"{"var": "null"}"#, "null"),
        (r#"{"var": ["null", "other"]}"#, "null"),
        (r#"{"var": "absent"}"#, "null"),
        (r#"{"var": ["absent", "other"]}"#, r#""other""#),
        (r#"{"var": ["absent", {"var": "one"}]}"#, "1"),
        (r#"{"var": ["one", {"var": "text"}]}"#, "1"),
        (r#"{"var": "numbers.4"}"#, "null"),
        (r#"{"var": "numbers.-1"}"#, "null"),
        (r#"{"var": "numbers.length"}"#, "null"),
        (r#"{"var": "numbers.18446744073709551616"}"#, "null"),
        (r#"{"var": "text.0"}"#, "null"),
        (r#"{"var": "null.0"}"#, "null"),
        (r#"{"var": "one.0"}"#, "null"),
        (r#"{"var": "."}"#, "null"),
        (r#"{"var": "one."}"#, "null"),
        (r#"{"var": ".one"}"#, "null"),
        (r#"{"var": [["one"]]}"#, "null"),
        (r#"{"var": true}"#, "null"),
    ]);
    let list = json!(["a", ["b", "c"]]);
    assert_eq!(evaluated(json!({"var": 0}), &list), Ok(json!("a")));
    assert_eq!(evaluated(json!({"var": 1.0}), &list), Ok(json!(["b", "c"])));
    assert_eq!(evaluated(json!({"var": 1.1}), &list), Ok(json!("c")));
    assert_eq!(evaluated(json!({"var": 2}), &list), Ok(Value::Null));
}

#[test]
fn var_with_an_empty_path_is_all_data() {
    let context = read(CONTEXT);
    for rule in
        [json!({"var": ""}), json!({"var": [""]}), json!({"var": []}), json!({"var": null}), json!({"var": [[]]})]
    {
        let wanted = if rule == json!({"var": [[]]}) { Value::Null } else { context.clone() };
        assert_eq!(evaluated(rule.clone(), &context), Ok(wanted), "{rule}");
    }
    assert_eq!(evaluated(json!({"var": ["", "other"]}), &json!(null)), Ok(json!(null)));
}

#[test]
fn missing_lists_the_paths_with_nothing_null_or_an_empty_text() {
    answers(&[
        (r#"{"missing": []}"#, "[]"),
        (r#"{"missing": "one"}"#, "[]"),
        (r#"{"missing": "absent"}"#, r#"["absent"]"#),
        (
            r#"{"missing": ["one", "absent", "null", "empty", "zero", "no", "nothing"]}"#,
            r#"["absent", "null", "empty"]"#,
        ),
        (r#"{"missing": [["one", "absent"], "null"]}"#, r#"["absent"]"#),
        (r#"{"missing": {"merge": ["absent", {"if": [true, ["null"], []]}]}}"#, r#"["absent", "null"]"#),
        (r#"{"missing": ["nested.list.0.name", "nested.list.2"]}"#, r#"["nested.list.2"]"#),
        (r#"{"missing": ["absent", "absent", 5]}"#, r#"["absent", "absent", 5]"#),
        (r#"{"missing_some": [1, ["one", "absent", "null"]]}"#, "[]"),
        (r#"{"missing_some": [2, ["one", "absent", "null"]]}"#, r#"["absent", "null"]"#),
        (r#"{"missing_some": [2, ["one", "absent", "text"]]}"#, "[]"),
        (r#"{"missing_some": ["2", ["one", "absent"]]}"#, r#"["absent"]"#),
        (r#"{"missing_some": [0, ["absent"]]}"#, "[]"),
        (r#"{"missing_some": [-1, ["absent"]]}"#, "[]"),
        (r#"{"missing_some": [1, "absent"]}"#, r#"["absent"]"#),
        (r#"{"missing_some": [1, []]}"#, "[]"),
    ]);
    fails(EvaluationError::NotANumber("a text"), &[r#"{"missing_some": ["many", ["one"]]}"#]);
}

#[test]
fn if_takes_the_first_true_branch_and_evaluates_no_other() {
    answers(&[
        (r#"{"if": []}"#, "null"),
        (r#"{"if": "only"}"#, r#""only""#),
        (r#"{"if": [true, "then"]}"#, r#""then""#),
        (r#"{"if": [false, "then"]}"#, "null"),
        (r#"{"if": ["0", "then", "else"]}"#, r#""then""#),
        (r#"{"if": [[], "then", "else"]}"#, r#""else""#),
        (r#"{"if": [0, 1, "", 2, "x", 3, 4]}"#, "3"),
        (r#"{"if": [0, 1, "", 2, null, 3, 4]}"#, "4"),
        (r#"{"if": [0, 1, "", 2]}"#, "null"),
        (r#"{"if": [true, 1, {"/": [1, 0]}, 2, {"/": [1, 0]}]}"#, "1"),
        (r#"{"if": [false, {"/": [1, 0]}, 2]}"#, "2"),
        (r#"{"?:": [{"var": "yes"}, "then", "else"]}"#, r#""then""#),
        (r#"{"?:": [{"var": "no"}, {"/": [1, 0]}, "else"]}"#, r#""else""#),
    ]);
}

#[test]
fn and_and_or_answer_the_deciding_value_and_evaluate_nothing_after_it() {
    answers(&[
        (r#"{"and": []}"#, "false"),
        (r#"{"or": []}"#, "false"),
        (r#"{"and": "x"}"#, r#""x""#),
        (r#"{"and": [1, "a", [0]]}"#, "[0]"),
        (r#"{"and": [1, "", 0]}"#, r#""""#),
        (r#"{"and": [1, {}, {"/": [1, 0]}]}"#, "{}"),
        (r#"{"or": [0, "", "a", 1]}"#, r#""a""#),
        (r#"{"or": [0, "", []]}"#, "[]"),
        (r#"{"or": [{"var": "numbers"}, {"/": [1, 0]}]}"#, "[1, 2, 3, 4]"),
    ]);
    fails(EvaluationError::DivisionByZero, &[r#"{"and": [1, {"/": [1, 0]}]}"#, r#"{"or": [0, {"/": [1, 0]}]}"#]);
}

/// Either way round, and `!=` and `!==` say the opposite.
fn equalities(operator: &str, rows: &[(&str, &str, bool)]) {
    let opposite = operator.replacen('=', "!", 1);
    let context = json!({"object": {"k": [1.0, {"l": "x"}], "m": null}});
    for (a, b, equal) in rows {
        let (a, b) = (read(a), read(b));
        for pair in [json!([a, b]), json!([b, a])] {
            assert_eq!(evaluated(json!({operator: pair}), &context), Ok((*equal).into()), "{pair}");
            assert_eq!(evaluated(json!({opposite.as_str(): pair}), &context), Ok((!equal).into()), "{pair}");
        }
    }
}

#[test]
fn loose_equality_is_of_texts_if_one_is_a_text_else_of_truth_if_one_is_a_truth_value() {
    equalities(
        "==",
        &[
            ("1", "1", true),
            ("1", "1.0", true),
            ("1", "2", false),
            ("1", r#""1""#, true),
            ("1.0", r#""1""#, true),
            ("1", r#""1.0""#, false),
            ("1", r#"" 1""#, false),
            ("0.5", r#""0.5""#, true),
            ("0", r#""""#, false),
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#""A""#, false),
            (r#""a""#, r#""ab""#, false),
            ("true", r#""true""#, true),
            ("true", r#""1""#, false),
            ("false", r#""false""#, true),
            ("false", r#""""#, false),
            ("null", r#""""#, false),
            ("null", r#""null""#, false),
            ("[1, \"a\"]", r#""[1,\"a\"]""#, true),
            ("[]", r#""""#, false),
            ("{}", r#""{}""#, true),
            ("true", "1", true),
            ("true", "2", true),
            ("true", "[0]", true),
            ("true", "{}", false),
            ("false", "0", true),
            ("false", "null", true),
            ("false", "[]", true),
            ("true", "false", false),
            ("null", "null", true),
            ("null", "0", false),
            ("null", "[]", false),
            ("0", "[]", false),
            ("1", "[1]", false),
            ("[1, [2]]", "[1.0, [2]]", true),
            ("[1]", r#"["1"]"#, false),
            ("[1]", "[true]", false),
            ("[1, 2]", "[2, 1]", false),
            ("[1]", "[1, 2]", false),
            ("[]", "{}", false),
            ("{}", "{}", true),
            ("9007199254740993", "9007199254740992", false),
            ("9007199254740993", "9007199254740992.0", false),
            ("18446744073709551615", "18446744073709551616", false),
        ],
    );
}

#[test]
fn strict_equality_converts_nothing_but_takes_integers_and_doubles_for_one_type() {
    equalities(
        "===",
        &[
            ("1", "1.0", true),
            ("1", r#""1""#, false),
            ("1", "true", false),
            ("0", "false", false),
            ("null", "false", false),
            ("null", "null", true),
            ("true", "true", true),
            ("true", "false", false),
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#""b""#, false),
            ("[1, null, \"a\"]", "[1.0, null, \"a\"]", true),
            ("[1, null, \"a\"]", "[1.0, null, \"b\"]", false),
            ("[[]]", "[[]]", true),
            ("[[]]", "[{}]", false),
            ("9007199254740993", "9007199254740993.0", false),
        ],
    );
}

#[test]
fn objects_are_equal_if_they_hold_equal_values_under_the_same_keys() {
    let context = json!({
        "object": {"a": [1, {"b": "x"}], "c": null},
        "equal": {"c": null, "a": [1.0, {"b": "x"}]},
        "deeper": {"a": [1, {"b": "y"}], "c": null},
        "other": {"a": [1, {"b": "x"}], "d": null},
        "fewer": {"a": [1, {"b": "x"}]},
    });
    for (name, equal) in [("object", true), ("equal", true), ("deeper", false), ("other", false), ("fewer", false)] {
        for (operator, a, b) in [("==", "object", name), ("==", name, "object"), ("===", name, "object")] {
            let rule = json!({operator: [{"var": a}, {"var": b}]});
            assert_eq!(evaluated(rule, &context), Ok(equal.into()), "{a} {operator} {b}");
        }
    }
}

/// For each pair: whether it is `<`, `<=`, `>` and `>=`.
#[test]
fn order_is_of_two_texts_or_of_numbers_and_null_has_none() {
    const LESS: [bool; 4] = [true, true, false, false];
    const EQUAL: [bool; 4] = [false, true, false, true];
    const GREATER: [bool; 4] = [false, false, true, true];
    const NEVER: [bool; 4] = [false; 4];
    for (a, b, wanted) in [
        ("1", "2", LESS),
        ("2", "1", GREATER),
        ("1", "1.0", EQUAL),
        ("-0.0", "0", EQUAL),
        ("0.5", "1", LESS),
        ("9007199254740992", "9007199254740993", LESS),
        ("9007199254740993", "9007199254740992.0", GREATER),
        ("18446744073709551615", "18446744073709551616.0", LESS),
        ("18446744073709551615", "1e300", LESS),
        ("-1e300", "-9223372036854775808", LESS),
        ("0.1", "0.2", LESS),
        ("1", r#""2""#, LESS),
        (r#""10""#, "9", GREATER),
        (r#"" 1.5 ""#, "1.5", EQUAL),
        (r#""1e2""#, "100", EQUAL),
        (r#""a""#, r#""b""#, LESS),
        (r#""b""#, r#""ab""#, GREATER),
        (r#""a""#, r#""a""#, EQUAL),
        (r#""10""#, r#""9""#, LESS),
        (r#""Z""#, r#""a""#, LESS),
        // By scalar values, not by UTF-16 units.
        (r#""ｚ""#, r#""𝄞""#, LESS),
        ("true", "false", GREATER),
        ("true", "1", EQUAL),
        ("false", r#""1""#, LESS),
        ("null", "null", NEVER),
        ("null", "1", NEVER),
        ("1", "null", NEVER),
        ("null", r#""a""#, NEVER),
        ("null", "[]", NEVER),
    ] {
        let (a, b) = (read(a), read(b));
        let found = ["<", "<=", ">", ">="].map(|operator| evaluated(json!({operator: [a, b]}), &json!({})));
        assert_eq!(found, wanted.map(|truth| Ok(truth.into())), "{a} and {b}");
    }
}

#[test]
fn three_arguments_are_in_order_if_both_neighbouring_pairs_are() {
    answers(&[
        (r#"{"<": [1, 2, 3]}"#, "true"),
        (r#"{"<": [1, 1, 3]}"#, "false"),
        (r#"{"<": [1, 3, 3]}"#, "false"),
        (r#"{"<": [3, 2, 4]}"#, "false"),
        (r#"{"<=": [1, 1, 3]}"#, "true"),
        (r#"{"<=": [1, 3, 3]}"#, "true"),
        (r#"{"<=": [1, 4, 3]}"#, "false"),
        (r#"{">": [3, 2, 1]}"#, "true"),
        (r#"{">": [3, 2, 2]}"#, "false"),
        (r#"{">=": [3, 2, 2]}"#, "true"),
        (r#"{">=": [2, 3, 1]}"#, "false"),
        (r#"{"<": [1, null, 3]}"#, "false"),
        (r#"{"<": [null, 2, 3]}"#, "false"),
        (r#"{"<=": ["a", "b", "b"]}"#, "true"),
        // Pair by pair: the first as numbers, the second not looked at.
        (r#"{"<": ["11", 2, "x"]}"#, "false"),
        (r#"{"<": ["11", "2", 3]}"#, "true"),
    ]);
}

#[test]
fn what_is_no_number_has_no_order_and_no_sum() {
    fails(
        EvaluationError::NotANumber("a text"),
        &[
            r#"{"<": [1, "x"]}"#,
            r#"{">=": ["", 0]}"#,
            r#"{"<": ["1 2", 0]}"#,
            r#"{"<": [true, "yes"]}"#,
            r#"{"<": [1, 2, "x"]}"#,
            r#"{"+": ["abc"]}"#,
            r#"{"+": ["NaN"]}"#,
            r#"{"*": [1, "inf"]}"#,
            r#"{"-": ["-Infinity"]}"#,
            r#"{"max": ["1e999"]}"#,
            r#"{"+": ["0x10"]}"#,
            r#"{"+": ["1,5"]}"#,
            r#"{"+": ["１"]}"#,
            r#"{"substr": ["abc", "x"]}"#,
        ],
    );
    fails(
        EvaluationError::NotANumber("null"),
        &[r#"{"+": [null, 1]}"#, r#"{"-": {"var": "absent"}}"#, r#"{"min": [1, null]}"#],
    );
    fails(
        EvaluationError::NotANumber("a list"),
        &[
            r#"{"<": [1, [1]]}"#,
            r#"{">": [[2], [1]]}"#,
            r#"{"+": {"var": "numbers"}}"#,
            r#"{"max": {"var": "numbers"}}"#,
        ],
    );
    fails(
        EvaluationError::NotANumber("an object"),
        &[r#"{"<": [{}, 1]}"#, r#"{"*": [2, {"var": "nested"}]}"#, r#"{"%": [{}, 2]}"#],
    );
}

#[test]
fn arithmetic_is_exact_in_64_bits_and_goes_on_in_doubles() {
    answers(&[
        (r#"{"+": []}"#, "0"),
        (r#"{"+": "3"}"#, "3"),
        (r#"{"+": " -3.50 "}"#, "-3.5"),
        (r#"{"+": [1, "2", true, 0.5]}"#, "4.5"),
        (r#"{"+": [0.5, 0.5]}"#, "1"),
        (r#"{"+": [0.1, 0.2]}"#, "0.30000000000000004"),
        (r#"{"+": [9007199254740992, 1]}"#, "9007199254740993"),
        (r#"{"+": [9223372036854775807, 1]}"#, "9223372036854775808"),
        (r#"{"+": [{"var": "largest"}, 1]}"#, "18446744073709551616.0"),
        (r#"{"+": [{"var": "largest"}, 1, -2]}"#, "18446744073709551614"),
        (r#"{"-": 3}"#, "-3"),
        (r#"{"-": [true]}"#, "-1"),
        (r#"{"-": 0.0}"#, "0"),
        (r#"{"-": [5, "7"]}"#, "-2"),
        (r#"{"-": [0.5, 0.25]}"#, "0.25"),
        (r#"{"-": {"var": "smallest"}}"#, "9223372036854775808"),
        (r#"{"-": [{"var": "smallest"}, 1]}"#, "-9223372036854775809.0"),
        (r#"{"*": []}"#, "1"),
        (r#"{"*": "4"}"#, "4"),
        (r#"{"*": [2, 3, 0.5]}"#, "3"),
        (r#"{"*": [0.5, 0.5]}"#, "0.25"),
        (r#"{"*": [4294967295, 4294967297]}"#, "18446744073709551615"),
        (r#"{"*": [4294967296, 4294967296]}"#, "18446744073709551616.0"),
        (r#"{"*": [1e30, 1e30]}"#, "1.0000000000000001e60"),
        (r#"{"/": [6, 3]}"#, "2"),
        (r#"{"/": [1, 4]}"#, "0.25"),
        (r#"{"/": [0, 5]}"#, "0"),
        (r#"{"/": ["9", 3]}"#, "3"),
        (r#"{"/": [1.5, 0.5]}"#, "3"),
        (r#"{"/": [{"var": "largest"}, 5]}"#, "3689348814741910323"),
        (r#"{"/": ["-170141183460469231731687303715884105728", -1]}"#, "1.7014118346046923e38"),
        (r#"{"%": [7, 3]}"#, "1"),
        (r#"{"%": [-7, 3]}"#, "-1"),
        (r#"{"%": [7, -3]}"#, "1"),
        (r#"{"%": [6, 3]}"#, "0"),
        (r#"{"%": [5.5, 2]}"#, "1.5"),
        (r#"{"%": ["7", 2.5]}"#, "2"),
        // 2^127, the first double that is no 128-bit integer.
        (r#"{"%": [1.7014118346046923e38, 10]}"#, "8"),
        (r#"{"%": [{"var": "largest"}, 10]}"#, "5"),
        (r#"{"%": ["-170141183460469231731687303715884105728", -1]}"#, "0"),
    ]);
}

#[test]
fn division_by_zero_and_numbers_beyond_a_double_are_errors() {
    fails(
        EvaluationError::DivisionByZero,
        &[
            r#"{"/": [1, 0]}"#,
            r#"{"/": [0, 0]}"#,
            r#"{"/": [1, -0.0]}"#,
            r#"{"/": [1.5, "0"]}"#,
            r#"{"/": [1, false]}"#,
            r#"{"%": [1, 0]}"#,
            r#"{"%": [1.5, 0.0]}"#,
        ],
    );
    fails(
        EvaluationError::NumberTooLarge,
        &[
            r#"{"*": [1e200, 1e200]}"#,
            r#"{"+": [1.7e308, 1.7e308]}"#,
            r#"{"-": [-1.7e308, 1.7e308]}"#,
            r#"{"/": [1e200, 1e-200]}"#,
        ],
    );
}

#[test]
fn min_and_max_are_numbers() {
    answers(&[
        (r#"{"min": []}"#, "null"),
        (r#"{"max": []}"#, "null"),
        (r#"{"min": [3, 1, 2]}"#, "1"),
        (r#"{"max": [1, 3, 2]}"#, "3"),
        (r#"{"max": 5}"#, "5"),
        (r#"{"min": ["10", 9, 9.5]}"#, "9"),
        (r#"{"max": ["10", 9]}"#, "10"),
        (r#"{"max": [-1, false]}"#, "0"),
        (r#"{"max": [9007199254740992.0, 9007199254740993]}"#, "9007199254740993"),
    ]);
}

#[test]
fn cat_joins_the_texts_of_its_arguments_and_passes_over_null() {
    answers(&[
        (r#"{"cat": []}"#, r#""""#),
        (r#"{"cat": "ice"}"#, r#""ice""#),
        (r#"{"cat": ["I am ", 4, " and ", 1.0, " and ", 0.5]}"#, r#""I am 4 and 1 and 0.5""#),
        (r#"{"cat": ["a", null, {"var": "absent"}, "b"]}"#, r#""ab""#),
        (r#"{"cat": [true, false]}"#, r#""truefalse""#),
        (r#"{"cat": ["x", [1, "a", null], {}]}"#, r#""x[1,\"a\",null]{}""#),
        (r#"{"cat": [{"var": "largest"}, {"var": "smallest"}]}"#, r#""18446744073709551615-9223372036854775808""#),
    ]);
}

#[test]
fn substr_counts_scalar_values_from_either_end() {
    answers(&[
        (r#"{"substr": ["jsonlogic", 4]}"#, r#""logic""#),
        (r#"{"substr": ["jsonlogic", -5]}"#, r#""logic""#),
        (r#"{"substr": ["jsonlogic", 1, 3]}"#, r#""son""#),
        (r#"{"substr": ["jsonlogic", 4, -2]}"#, r#""log""#),
        (r#"{"substr": ["jsonlogic", -5, 2]}"#, r#""lo""#),
        (r#"{"substr": ["jsonlogic", -5, -2]}"#, r#""log""#),
        (r#"{"substr": ["jsonlogic", 0, 0]}"#, r#""""#),
        (r#"{"substr": ["jsonlogic", 4, -5]}"#, r#""""#),
        (r#"{"substr": ["jsonlogic", 4, -9]}"#, r#""""#),
        (r#"{"substr": ["jsonlogic", 9]}"#, r#""""#),
        (r#"{"substr": ["jsonlogic", 99, 3]}"#, r#""""#),
        (r#"{"substr": ["jsonlogic", -99, 4]}"#, r#""json""#),
        (r#"{"substr": ["jsonlogic", 7, 99]}"#, r#""ic""#),
        (r#"{"substr": ["jsonlogic", 1.9, 2.9]}"#, r#""so""#),
        (r#"{"substr": ["jsonlogic", "4", null]}"#, r#""logic""#),
        (r#"{"substr": ["jsonlogic", null, 4]}"#, r#""json""#),
        (r#"{"substr": [{"var": "long"}, 1, 2]}"#, r#""öü""#),
        (r#"{"substr": [{"var": "long"}, -1]}"#, r#""𝄞""#),
        (r#"{"substr": [12345, 1, 2]}"#, r#""23""#),
        (r#"{"substr": [null, 0]}"#, r#""""#),
        (r#"{"substr": ["abc", -9223372036854775808, 1]}"#, r#""a""#),
        (r#"{"substr": ["abc", 18446744073709551615]}"#, r#""""#),
        (r#"{"substr": ["abc", -1e308, 1e308]}"#, r#""abc""#),
        (r#"{"substr": ["abc", 1e308, -1e308]}"#, r#""""#),
    ]);
}

#[test]
fn in_finds_a_part_of_a_text_or_an_identical_element() {
    answers(&[
        (r#"{"in": ["Spring", "Springfield"]}"#, "true"),
        (r#"{"in": ["spring", "Springfield"]}"#, "false"),
        (r#"{"in": ["", "Springfield"]}"#, "true"),
        (r#"{"in": [1, "Room 101"]}"#, "true"),
        (r#"{"in": [null, "null"]}"#, "false"),
        (r#"{"in": [2, {"var": "numbers"}]}"#, "true"),
        (r#"{"in": [2.0, {"var": "numbers"}]}"#, "true"),
        (r#"{"in": ["2", {"var": "numbers"}]}"#, "false"),
        (r#"{"in": [true, {"var": "numbers"}]}"#, "false"),
        (r#"{"in": [5, {"var": "numbers"}]}"#, "false"),
        (r#"{"in": [[10, 20], {"var": "nested.list"}]}"#, "true"),
        (r#"{"in": [null, [null]]}"#, "true"),
        (r#"{"in": [1, []]}"#, "false"),
        (r#"{"in": ["7", {"var": "nested"}]}"#, "false"),
        (r#"{"in": ["a", null]}"#, "false"),
        (r#"{"in": [1, 1]}"#, "false"),
    ]);
}

#[test]
fn merge_joins_lists_by_one_level_and_count_counts_what_is_true() {
    answers(&[
        (r#"{"merge": []}"#, "[]"),
        (r#"{"merge": 1}"#, "[1]"),
        (r#"{"merge": [[1, 2], 3, [[4]], null, {}, []]}"#, "[1, 2, 3, [4], null, {}]"),
        (r#"{"merge": [{"var": "numbers"}, {"map": [[1], {"var": ""}]}]}"#, "[1, 2, 3, 4, 1]"),
        (r#"{"count": []}"#, "0"),
        (r#"{"count": [1, 0, "0", "", [], [0], null, {"var": "yes"}]}"#, "4"),
        (r#"{"count": {"var": "numbers"}}"#, "1"),
    ]);
}

#[test]
fn map_and_filter_see_each_element_as_the_data() {
    answers(&[
        (r#"{"map": [{"var": "numbers"}, {"*": [{"var": ""}, 2]}]}"#, "[2, 4, 6, 8]"),
        (r#"{"map": [{"var": "people"}, {"var": "name"}]}"#, r#"["Ann", "Bob", "Cem"]"#),
        (r#"{"map": [{"var": "people"}, {"var": "one"}]}"#, "[null, null, null]"),
        (r#"{"map": [[1, {"var": "text"}], {"var": ""}]}"#, r#"[1, "abc"]"#),
        (r#"{"map": [[[1, 2], []], {"map": [{"var": ""}, {"+": [{"var": ""}, 1]}]}]}"#, "[[2, 3], []]"),
        (r#"{"map": [{"var": "absent"}, {"/": [1, 0]}]}"#, "[]"),
        (r#"{"map": [{"cat": "abc"}, {"/": [1, 0]}]}"#, "[]"),
        (r#"{"filter": [{"var": "numbers"}, {"%": [{"var": ""}, 2]}]}"#, "[1, 3]"),
        (r#"{"filter": [{"map": [{"var": "numbers"}, {"+": {"var": ""}}]}, {">": [{"var": ""}, 2]}]}"#, "[3, 4]"),
        (r#"{"filter": [{"var": "people"}, {">=": [{"var": "age"}, 18]}]}"#, r#"[{"name": "Ann", "age": 30}]"#),
        (r#"{"filter": [{"var": "nested"}, true]}"#, "[]"),
    ]);
}

#[test]
fn reduce_sees_the_current_element_and_the_accumulator() {
    answers(&[
        (r#"{"reduce": [{"var": "numbers"}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]}"#, "10"),
        (
            r#"{"reduce": [{"var": "numbers"}, {"-": [{"var": "accumulator"}, {"var": "current"}]}, {"var": "one"}]}"#,
            "-9",
        ),
        (
            r#"{"reduce": [{"var": "people"}, {"cat": [{"var": "accumulator"}, {"var": "current.name"}]}]}"#,
            r#""AnnBobCem""#,
        ),
        (r#"{"reduce": [[[5, 6]], {"var": "current.1"}, 0]}"#, "6"),
        (r#"{"reduce": [[1, 2], {"var": "accumulator.0"}, [[["x"]]]]}"#, r#"["x"]"#),
        (r#"{"reduce": [[1], {"var": ""}, 2]}"#, r#"{"accumulator": 2, "current": 1}"#),
        (r#"{"reduce": [[1], {"var": "one"}, 2]}"#, "null"),
        (r#"{"reduce": [[1], {"missing": ["current", "accumulator", "one"]}, ""]}"#, r#"["accumulator", "one"]"#),
        (r#"{"reduce": [[], {"/": [1, 0]}, "start"]}"#, r#""start""#),
        (r#"{"reduce": [{"var": "absent"}, {"/": [1, 0]}, "start"]}"#, r#""start""#),
        (r#"{"reduce": [[], 1]}"#, "null"),
    ]);
}

#[test]
fn all_some_and_none_stop_at_the_element_that_decides() {
    answers(&[
        (r#"{"all": [{"var": "numbers"}, {">": [{"var": ""}, 0]}]}"#, "true"),
        (r#"{"all": [{"var": "numbers"}, {">": [{"var": ""}, 1]}]}"#, "false"),
        (r#"{"all": [{"var": "nothing"}, true]}"#, "false"),
        (r#"{"all": [{"var": "absent"}, true]}"#, "false"),
        (r#"{"all": [[0, "x"], {"+": {"var": ""}}]}"#, "false"),
        (r#"{"some": [{"var": "numbers"}, {"==": [{"var": ""}, 4]}]}"#, "true"),
        (r#"{"some": [{"var": "numbers"}, {"==": [{"var": ""}, 5]}]}"#, "false"),
        (r#"{"some": [{"var": "nothing"}, true]}"#, "false"),
        (r#"{"some": [{"var": "text"}, true]}"#, "false"),
        (r#"{"some": [[1, "x"], {"+": {"var": ""}}]}"#, "true"),
        (r#"{"none": [{"var": "numbers"}, {"==": [{"var": ""}, 5]}]}"#, "true"),
        (r#"{"none": [{"var": "numbers"}, {"==": [{"var": ""}, 4]}]}"#, "false"),
        (r#"{"none": [{"var": "nothing"}, true]}"#, "true"),
        (r#"{"none": [{"var": "absent"}, true]}"#, "true"),
        (r#"{"none": [[1, "x"], {"+": {"var": ""}}]}"#, "false"),
    ]);
}

#[test]
fn log_answers_its_argument() {
    answers(&[(r#"{"log": "x"}"#, r#""x""#), (r#"{"log": [{"var": "numbers"}]}"#, "[1, 2, 3, 4]")]);
}

/// Every operator, with the fewest and the most arguments that it takes.
pub(crate) const OPERATORS: [(&str, usize, usize); 36] = [
    ("var", 0, 2),
    ("missing", 0, usize::MAX),
    ("missing_some", 2, 2),
    ("if", 0, usize::MAX),
    ("?:", 3, 3),
    ("and", 0, usize::MAX),
    ("or", 0, usize::MAX),
    ("!", 1, 1),
    ("!!", 1, 1),
    ("==", 2, 2),
    ("!=", 2, 2),
    ("===", 2, 2),
    ("!==", 2, 2),
    ("<", 2, 3),
    ("<=", 2, 3),
    (">", 2, 3),
    (">=", 2, 3),
    ("+", 0, usize::MAX),
    ("-", 1, 2),
    ("*", 0, usize::MAX),
    ("/", 2, 2),
    ("%", 2, 2),
    ("min", 0, usize::MAX),
    ("max", 0, usize::MAX),
    ("cat", 0, usize::MAX),
    ("substr", 2, 3),
    ("in", 2, 2),
    ("merge", 0, usize::MAX),
    ("count", 0, usize::MAX),
    ("map", 2, 2),
    ("filter", 2, 2),
    ("reduce", 2, 3),
    ("all", 2, 2),
    ("none", 2, 2),
    ("some", 2, 2),
    ("log", 1, 1),
];

#[test]
fn an_operator_with_a_number_of_arguments_that_it_does_not_take_is_refused() {
    for (operator, least, most) in OPERATORS {
        for given in 0..=5 {
            let result = Logic::parse(json!({operator: vec![1; given]}));
            if (least..=most).contains(&given) {
                assert!(result.is_ok(), "{operator} {given}");
            } else {
                let error = InvalidLogic::WrongArguments { operator, takes: least..=most, given };
                assert_eq!(result, Err(error), "{operator} {given}");
            }
        }
        let bare = Logic::parse(json!({operator: 1}));
        assert_eq!(bare.is_ok(), (least..=most).contains(&1), "{operator}");
    }
}

#[test]
fn an_object_that_is_no_operator_is_refused_wherever_it_is() {
    for name in ["method", "Var", "VAR", " var", "var ", "", "=", "<>", "====", "throw", "val", "äöü", "\0"] {
        for rule in [
            json!({name: [1, 2]}),
            json!([{name: 1}]),
            json!({"if": [false, {name: {}}]}),
            json!({"!": {name: 1}}),
            json!({"map": [[], [[{name: []}]]]}),
        ] {
            assert_eq!(refused(rule), InvalidLogic::UnknownOperator(name.to_owned()), "{name}");
        }
    }
    let three = json!({"==": [1, 1], "!": 1, "x": 2});
    assert_eq!(refused(json!({"==": [1, 1], "!=": [1, 1]})), InvalidLogic::SeveralKeys(2));
    assert_eq!(refused(json!({"or": [{"and": three}]})), InvalidLogic::SeveralKeys(3));
    let long = "ä".repeat(1000);
    assert_eq!(refused(json!({long: 1})), InvalidLogic::UnknownOperator("ä".repeat(64)));
}

#[test]
fn refusals_and_errors_are_sentences() {
    for (rule, sentence) in [
        (json!({"method": ["a", "b"]}), r#"there is no operator "method""#),
        (json!({"a": 1, "b": 2}), "an operator object has exactly one key, not 2"),
        (json!({"!": []}), r#""!" takes one argument, not 0"#),
        (json!({"==": [1]}), r#""==" takes 2 arguments, not 1"#),
        (json!({"-": [1, 2, 3]}), r#""-" takes 1 to 2 arguments, not 3"#),
        (lists(65), "operators and lists can be nested 64 deep at most"),
    ] {
        assert_eq!(refused(rule).to_string(), sentence);
    }
    for (rule, sentence) in [
        (json!({"+": [1, "x"]}), "a text is not a number"),
        (json!({"/": [1, 0]}), "the expression divides by zero"),
        (json!({"*": [1e300, 1e300]}), "a number is too large"),
    ] {
        assert_eq!(evaluated(rule, &json!({})).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_rule_is_stored_and_read_as_it_was_written() {
    for rule in [
        r#"{"var":"a"}"#,
        r#"{"var":["a"]}"#,
        r#"{"var":[["a"]]}"#,
        r#"{"var":[]}"#,
        "{}",
        r#"[1.0,1,{"!":[{}]},{"log":{}},[[],null]]"#,
        r#"{"if":[{"==":[{"var":"tier"},"gold"]},["a",{"cat":["b",1]}],"c"]}"#,
    ] {
        let read: Logic = serde_json::from_str(rule).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), rule);
        assert_eq!(Value::from(read).to_string(), rule);
    }
    assert!(serde_json::from_str::<Logic>(r#"{"method":[]}"#).is_err());
}

/// `depth` lists in each other, around nothing.
pub(crate) fn lists(depth: usize) -> Value {
    (1..depth).fold(Value::Array(vec![]), |inner, _| Value::Array(vec![inner]))
}

#[test]
fn expressions_are_nested_64_deep_at_most() {
    let nots = |depth| (0..depth).fold(json!(true), |inner, _| json!({"!": [inner]}));
    let bare = |depth| (0..depth).fold(json!(true), |inner, _| json!({"!": inner}));
    let mixed = |depth| (0..depth / 2).fold(json!(true), |inner, _| json!([{"!": [inner]}]));
    for nest in [&lists as &dyn Fn(usize) -> Value, &nots, &bare, &mixed] {
        assert!(evaluated(nest(MAX_DEPTH), &json!({})).is_ok());
        for depth in [MAX_DEPTH + 2, 1000] {
            assert_eq!(refused(nest(depth)), InvalidLogic::TooDeep);
        }
    }
    assert_eq!(refused(nots(MAX_DEPTH + 1)), InvalidLogic::TooDeep);
    assert_eq!(refused(lists(MAX_DEPTH + 1)), InvalidLogic::TooDeep);
}

#[test]
fn an_expression_names_a_text_or_the_true_elements_of_a_list() {
    let context = read(CONTEXT);
    let named = |rule: &str| parsed(read(rule)).texts(&context);
    for (rule, texts) in [
        (r#"{"var": "text"}"#, &["abc"][..]),
        (r#"{"var": "empty"}"#, &[""]),
        (r#"{"var": "numbers"}"#, &["1", "2", "3", "4"]),
        (r#"[0, 1.0, 2.5, "", "0", null, false, true, [], {}]"#, &["1", "2.5", "0", "true"]),
        (r#"{"map": [{"var": "people"}, {"var": "name"}]}"#, &["Ann", "Bob", "Cem"]),
        (r#"{"var": "nested.list"}"#, &[r#"{"name":"deep"}"#, "[10,20]"]),
        (r#"{"var": "one"}"#, &[]),
        (r#"{"var": "yes"}"#, &[]),
        (r#"{"var": "nested"}"#, &[]),
        (r#"{"var": "absent"}"#, &[]),
        ("null", &[]),
        ("[]", &[]),
    ] {
        assert_eq!(named(rule), Ok(texts.iter().map(ToString::to_string).collect()), "{rule}");
    }
    assert_eq!(named(r#"{"/": [1, 0]}"#), Err(EvaluationError::DivisionByZero));
    let all = parsed(json!({ "var": "" }));
    assert_eq!(all.texts(&vec![1; MAX_STEPS].into()), Err(EvaluationError::TooManySteps));
    assert_eq!(all.texts(&json!([["x".repeat(MAX_OUTPUT)]])), Err(EvaluationError::TooMuchOutput));
}

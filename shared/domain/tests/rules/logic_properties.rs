//! What holds for every expression and all data, and that another evaluator of JSONLogic answers the same.

use crate::logic::OPERATORS;
use crate::logic_budget::{depth, size};
use countersign_domain::logic::{Logic, MAX_DEPTH, MAX_OUTPUT};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

const KEYS: [&str; 8] = ["a", "b", "c", "list", "", "0", "current", "accumulator"];

const PATHS: [&str; 14] =
    ["", "a", "b", "c", "list", "list.0", "list.1.a", "a.b", "0", "current", "accumulator", "accumulator.0", ".", "x"];

const EDGES: [i64; 8] = [0, 1, -1, 2, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1];

fn scalar() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        4 => (-9_i64..=9).prop_map(Value::from),
        2 => select(&EDGES).prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => select(&[0.5, -0.0, 1.0, 1e300, 5e-324]).prop_map(Value::from),
    ];
    let text = prop_oneof![
        2 => select(&["", "0", "a", "ab", "-1.5", "1e3", "true", "null", "nan"]).prop_map(Value::from),
        2 => select(&PATHS).prop_map(Value::from),
        1 => "\\PC{0,6}".prop_map(Value::from),
    ];
    prop_oneof![1 => Just(Value::Null), 2 => any::<bool>().prop_map(Value::from), 4 => number, 4 => text]
}

/// Any JSON; keys are often operators, so that some of it is an expression by chance.
fn json_value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        2 => select(&OPERATORS).prop_map(|(name, ..)| name.to_owned()),
        2 => select(&KEYS).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    scalar().prop_recursive(5, 64, 6, move |inner| {
        let object =
            vec((key.clone(), inner.clone()), 0..4).prop_map(|entries| Value::from_iter(Map::from_iter(entries)));
        prop_oneof![vec(inner, 0..6).prop_map(Value::from), object]
    })
}

/// Data with what the paths above look for.
fn context() -> impl Strategy<Value = Value> {
    let object = vec((select(&KEYS), json_value()), 0..8).prop_map(Value::from_iter);
    prop_oneof![4 => object, 1 => json_value()]
}

/// An operator around arguments that it takes; one argument is written without its list now and then.
fn call(inner: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    select(&OPERATORS).prop_flat_map(move |(name, least, most)| {
        let arguments = vec(inner.clone(), least..=most.min(4));
        (arguments, any::<bool>()).prop_map(move |(mut arguments, bare)| match arguments.as_slice() {
            [only] if bare && !only.is_array() => json!({ name: arguments.remove(0) }),
            _ => json!({ name: arguments }),
        })
    })
}

/// An expression of any operators, most of which find something in the data.
fn expression() -> impl Strategy<Value = Value> {
    let var = select(&PATHS).prop_map(|path| json!({"var": path}));
    let leaf = prop_oneof![3 => scalar(), 3 => var, 1 => Just(json!({}))];
    leaf.prop_recursive(
        6,
        80,
        5,
        |inner| prop_oneof![6 => call(inner.clone()), 1 => vec(inner, 0..6).prop_map(Value::from)],
    )
}

/// What parsing accepts, said a second time.
fn is_expression(json: &Value) -> bool {
    let arguments_of = |operator: &str, json: &Value| {
        let given = json.as_array().map_or(1, Vec::len);
        OPERATORS.iter().any(|(name, least, most)| *name == operator && (*least..=*most).contains(&given))
    };
    match json {
        Value::Array(items) => items.iter().all(is_expression),
        Value::Object(object) if object.is_empty() => true,
        Value::Object(object) => {
            object.len() == 1
                && object.iter().all(|(name, arguments)| arguments_of(name, arguments) && is_expression(arguments))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn parsed(rule: &Value) -> Logic {
    Logic::parse(rule.clone()).unwrap_or_else(|error| panic!("{error}: {rule}"))
}

fn truth(rule: Value, context: &Value) -> Option<bool> {
    parsed(&rule).matches(context).ok()
}

proptest! {
    #[test]
    fn exactly_the_expressions_are_parsed_and_written_back_as_they_were(json in prop_oneof![json_value(), expression()]) {
        match Logic::parse(json.clone()) {
            Ok(logic) => {
                prop_assert!(is_expression(&json), "{json}");
                let text = serde_json::to_string(&logic).unwrap();
                prop_assert_eq!(&text, &json.to_string());
                prop_assert_eq!(&serde_json::from_str::<Logic>(&text).unwrap(), &logic);
                prop_assert_eq!(Value::from(logic), json);
            }
            Err(error) => prop_assert!(!is_expression(&json), "{error}: {json}"),
        }
    }

    #[test]
    fn every_evaluation_ends_within_its_budget_and_the_same_way_each_time(rule in expression(), context in context()) {
        let logic = parsed(&rule);
        let found = logic.evaluate(&context);
        prop_assert_eq!(&found, &logic.evaluate(&context));
        if let Ok(value) = &found {
            prop_assert!(size(value) <= MAX_OUTPUT + 64 && depth(value) <= MAX_DEPTH);
            // Its truth is that of its value.
            let again = json!({"!!": [{"var": ""}]});
            prop_assert_eq!(logic.matches(&context).ok(), truth(again, value));
        }
    }

    #[test]
    fn what_is_produced_from_hostile_lists_is_bounded(body in expression(), start in scalar(), n in 1..300_usize) {
        let context = json!({"all": vec![json!({"a": "xyz", "list": [1, [2]]}); n]});
        let list = json!({"var": "all"});
        for rule in [json!({"reduce": [list, body, start]}), json!({"map": [list, {"map": [[{"var": ""}, 1], body]}]})] {
            if let Ok(value) = parsed(&rule).evaluate(&context) {
                prop_assert!(size(&value) <= MAX_OUTPUT + 64 && depth(&value) <= MAX_DEPTH);
            }
        }
    }

    #[test]
    fn negations_and_mirror_images_agree(a in expression(), b in expression(), context in context()) {
        for (operator, opposite) in [("==", "!="), ("===", "!==")] {
            let equal = truth(json!({operator: [a, b]}), &context);
            prop_assert_eq!(truth(json!({operator: [b, a]}), &context), equal);
            prop_assert_eq!(truth(json!({opposite: [a, b]}), &context), equal.map(|equal| !equal));
        }
        for (operator, mirrored) in [("<", ">"), ("<=", ">=")] {
            prop_assert_eq!(truth(json!({operator: [a, b]}), &context), truth(json!({mirrored: [b, a]}), &context));
        }
        prop_assert_eq!(truth(json!({"!": [a]}), &context), truth(a.clone(), &context).map(|truth| !truth));
        prop_assert_eq!(truth(json!({"!!": [a]}), &context), truth(a, &context));
    }

    #[test]
    fn equal_without_conversion_is_equal_with_it(a in json_value(), b in json_value()) {
        let context = json!({"a": a, "b": b, "same": a});
        let equal = |operator: &str, other: &str| truth(json!({operator: [{"var": "a"}, {"var": other}]}), &context);
        prop_assert_eq!(equal("===", "same"), Some(true));
        prop_assert!(equal("===", "b") != Some(true) || equal("==", "b") == Some(true));
        prop_assert_eq!(equal("===", "b") == Some(true), equal("==", "b") == Some(true) && equal("!==", "b") == Some(false));
    }

    #[test]
    fn quantifiers_agree_with_filter(list in vec(scalar(), 0..6), test in expression()) {
        let context = json!({"list": list});
        let with = |operator: &str| json!({operator: [{"var": "list"}, test]});
        if let Ok(passed) = parsed(&with("filter")).evaluate(&context) {
            let passed = passed.as_array().unwrap().len();
            prop_assert_eq!(truth(with("some"), &context), Some(passed > 0));
            prop_assert_eq!(truth(with("none"), &context), Some(passed == 0));
            prop_assert_eq!(truth(with("all"), &context), Some(passed == list.len() && passed > 0));
        }
    }

    #[test]
    fn integers_of_64_bits_are_added_subtracted_multiplied_and_ordered_exactly(a in integer(), b in integer()) {
        let found = |operator: &str| {
            let rule = json!({operator: [{"var": "a"}, {"var": "b"}]});
            parsed(&rule).evaluate(&json!({"a": json_integer(a), "b": json_integer(b)})).unwrap()
        };
        // Beyond 127 bits there is no exact product to compare with.
        let product = a.checked_mul(b).map_or_else(|| json!(a as f64 * b as f64), json_integer);
        prop_assert_eq!(found("*"), product);
        for (operator, exact) in [("+", a + b), ("-", a - b), ("min", a.min(b)), ("max", a.max(b))] {
            prop_assert_eq!(found(operator), json_integer(exact));
        }
        prop_assert_eq!(found("<"), json!(a < b));
        prop_assert_eq!(found("==="), json!(a == b));
        if b != 0 {
            prop_assert_eq!(found("%"), json_integer(a % b));
        }
    }
}

fn integer() -> impl Strategy<Value = i128> {
    prop_oneof![
        any::<i64>().prop_map(i128::from),
        any::<u64>().prop_map(i128::from),
        -99..99_i128,
        select(&EDGES).prop_map(i128::from)
    ]
}

fn json_integer(integer: i128) -> Value {
    serde_json::Number::from_i128(integer).map_or_else(|| Value::from(integer as f64), Value::Number)
}

/// Expressions of which the type is known, and with it that both evaluators define the same answer.
///
/// Left out, because the other evaluator goes by another text or by none: `method`, `count`, `log` (not there); `==`
/// between types (ours goes by texts, then truth; the other by numbers, or fails); texts as numbers beyond plain ones,
/// null, lists and objects as numbers (errors here, often 0 there) and as texts; order of null and of lists; integers
/// near 64 bits (inexact there) and divisions by zero; `in` with a number in a text; names that are no text; too few or
/// too many arguments; paths within `map` and its kin that only the outer data has.
mod comparison {
    use super::*;

    /// Numbers that all doubles represent exactly, and whose sums and products here do.
    fn number_of(element: bool) -> BoxedStrategy<Value> {
        let literal =
            prop_oneof![(-50_i64..50).prop_map(Value::from), (-99_i64..99).prop_map(|n| json!(n as f64 / 4.0))];
        let var = if element {
            Just(json!({"var": ""})).boxed()
        } else {
            select(&["n", "m", "in.n", "numbers.1"]).prop_map(|path| json!({"var": path})).boxed()
        };
        let leaf = prop_oneof![literal, var];
        leaf.prop_recursive(3, 24, 3, move |inner| {
            let small = (-4_i64..=4).prop_map(Value::from);
            let numerals = (-99_i64..99).prop_map(|n| Value::from(n.to_string()));
            prop_oneof![
                vec(inner.clone(), 2..4).prop_map(|numbers| json!({"+": numbers})),
                (inner.clone(), numerals).prop_map(|(number, numeral)| json!({"+": [number, numeral]})),
                vec(inner.clone(), 1..=2).prop_map(|numbers| json!({"-": numbers})),
                (inner.clone(), small).prop_map(|(number, small)| json!({"*": [number, small]})),
                (inner.clone(), select(&[1, -2, 4])).prop_map(|(number, by)| json!({"/": [number, by]})),
                (inner.clone(), select(&[3, -3, 7])).prop_map(|(number, by)| json!({"%": [number, by]})),
                vec(inner.clone(), 2..4).prop_map(|numbers| json!({"min": numbers})),
                vec(inner.clone(), 2..4).prop_map(|numbers| json!({"max": numbers})),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| json!({"if": [{"<": [a, b]}, b, c]})),
            ]
        })
        .boxed()
    }

    fn number() -> BoxedStrategy<Value> {
        number_of(false)
    }

    fn numbers() -> BoxedStrategy<Value> {
        let leaf = prop_oneof![
            vec(number(), 0..4).prop_map(Value::from),
            Just(json!({"var": "numbers"})),
            Just(json!({"var": ["absent", [1, 2]]})),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                (inner.clone(), number_of(true)).prop_map(|(list, body)| json!({"map": [list, body]})),
                (inner.clone(), number_of(true)).prop_map(|(list, body)| json!({"filter": [list, {">": [body, 1]}]})),
                vec(inner, 2..4).prop_map(|lists| json!({"merge": lists})),
            ]
        })
        .boxed()
    }

    fn text() -> BoxedStrategy<Value> {
        let leaf = prop_oneof![
            "[a-zäöü€ ]{0,6}".prop_map(Value::from),
            select(&["t", "u", "in.t"]).prop_map(|path| json!({"var": path})),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let index = || -7_i64..7;
            let part = prop_oneof![inner.clone(), (-99_i64..99).prop_map(Value::from)];
            prop_oneof![
                vec(part, 0..4).prop_map(|parts| json!({"cat": parts})),
                (inner.clone(), index()).prop_map(|(text, from)| json!({"substr": [text, from]})),
                (inner.clone(), index(), index())
                    .prop_map(|(text, from, length)| json!({"substr": [text, from, length]})),
                (truth(), inner.clone(), inner).prop_map(|(test, a, b)| json!({"if": [test, a, b]})),
            ]
        })
        .boxed()
    }

    /// Comparisons of one type, and what is made of lists.
    fn truth() -> BoxedStrategy<Value> {
        let paths = vec(select(&["n", "in.n", "absent", "in.x"]), 1..4);
        let equality = || select(&["==", "===", "!=", "!=="]);
        let order = || select(&["<", "<=", ">", ">="]);
        let quantifier = select(&["all", "some", "none"]);
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            (select(&["==", "===", "!=", "!==", "<", "<=", ">", ">="]), number(), number())
                .prop_map(|(is, a, b)| json!({is: [a, b]})),
            (order(), number(), number(), number()).prop_map(|(is, a, b, c)| json!({is: [a, b, c]})),
            (equality(), "[a-c]{0,2}", "[a-c]{0,2}").prop_map(|(is, a, b)| json!({is: [a, b]})),
            (order(), "[a-cü]{0,2}", "[a-cü]{0,2}").prop_map(|(is, a, b)| json!({is: [a, b]})),
            (select(&["===", "!=="]), select(&["n", "t", "null", "absent"]))
                .prop_map(|(is, path)| json!({is: [{"var": path}, null]})),
            ("[a-cü]{0,2}", "[a-cü]{0,5}").prop_map(|(part, text)| json!({"in": [part, text]})),
            (number(), numbers()).prop_map(|(wanted, list)| json!({"in": [wanted, list]})),
            (quantifier, numbers(), number_of(true))
                .prop_map(|(are, list, body)| json!({are: [list, {">": [body, 0]}]})),
            (paths, 0..4).prop_map(|(paths, needed)| json!({"!": {"missing_some": [needed, paths]}})),
            numbers().prop_map(|list| json!({"!!": [list]})),
            number().prop_map(|number| json!({"!": [number]})),
        ]
        .boxed()
    }

    /// Any of these; `and` and `or` answer values of every type.
    fn expression() -> impl Strategy<Value = Value> {
        let paths = vec(select(&["n", "in.n", "absent", "in.x"]), 1..4);
        let sum = json!({"+": [{"var": "accumulator"}, {"var": "current"}]});
        let value = prop_oneof![
            2 => number(),
            2 => text(),
            3 => truth(),
            2 => numbers(),
            1 => paths.prop_map(|paths| json!({"missing": paths})),
            1 => (numbers(), number()).prop_map(move |(list, start)| json!({"reduce": [list, sum, start]})),
        ];
        value.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(|values| json!({"and": values})),
                vec(inner.clone(), 1..4).prop_map(|values| json!({"or": values})),
                vec(inner.clone(), 2..6).prop_map(|values| json!({"if": values})),
                vec(inner.clone(), 3..=3).prop_map(|values| json!({"?:": values})),
                inner.clone().prop_map(|value| json!({"!": [value]})),
                inner.prop_map(|value| json!({"!!": [value]})),
            ]
        })
    }

    fn context() -> impl Strategy<Value = Value> {
        let numbers = vec(-20_i64..20, 2..6);
        (-50_i64..50, -99_i64..99, numbers, "[a-zü]{0,5}", "[a-z]{0,3}").prop_map(|(n, m, numbers, t, u)| {
            let inner = json!({"n": m, "t": u});
            json!({"n": n, "m": m as f64 / 4.0, "numbers": numbers, "t": t, "u": u, "in": inner, "null": null, "empty": ""})
        })
    }

    /// The value with every number as a double.
    fn in_doubles(value: Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64().unwrap() + 0.0),
            Value::Array(items) => items.into_iter().map(in_doubles).collect(),
            Value::Object(object) => object.into_iter().map(|(key, value)| (key, in_doubles(value))).collect(),
            Value::Null | Value::Bool(_) | Value::String(_) => value,
        }
    }

    proptest! {
        #[test]
        fn another_evaluator_answers_the_same(rule in expression(), context in context()) {
            let theirs: Value = datalogic_rs::eval_into(&rule, &context).unwrap();
            let ours = parsed(&rule).evaluate(&context).unwrap();
            prop_assert_eq!(in_doubles(ours), in_doubles(theirs), "{}", rule);
        }
    }
}

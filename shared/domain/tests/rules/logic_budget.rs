//! Where the evaluation of an expression ends: steps, output and depth, to the last one, and rules that are out for harm.

use crate::logic::{evaluated, lists, parsed, shown};
use countersign_domain::logic::{EvaluationError, MAX_DEPTH, MAX_OUTPUT, MAX_STEPS};
use serde_json::{Value, json};
use std::thread;

/// What a value counts, beside its text.
const PLACE: usize = 32;

#[test]
fn each_expression_element_and_path_is_a_step() {
    let list = |n: usize| json!({"list": vec![0; n], "names": vec!["x"; n]});
    let var = |name: &str| json!({"var": name});
    // What is taken beside the n steps, and a rule for each.
    for (beside, rule) in [
        // or, n arguments
        (1, (&|n: usize| json!({"or": vec![0; n]})) as &dyn Fn(usize) -> Value),
        // the list, its first element with its path, n others
        (3, &|n| Value::from([vec![json!({"!": true})], vec![json!(0); n]].concat())),
        // filter, var, its path
        (3, &|_| json!({"filter": [var("list"), 0]})),
        (3, &|_| json!({"map": [var("list"), 0]})),
        (3, &|_| json!({"some": [var("list"), 0]})),
        (3, &|_| json!({"all": [var("list"), 1]})),
        (4, &|_| json!({"reduce": [var("list"), 0, 0]})),
        // in, the wanted value, var, its path
        (4, &|_| json!({"in": [1, var("list")]})),
        // missing, var, its path
        (3, &|_| json!({"missing": [var("names")]})),
        // missing_some, number, var, its path
        (4, &|_| json!({"missing_some": [1, var("names")]})),
        // ===, two vars with their paths, the two lists
        (6, &|_| json!({"===": [var("list"), var("list")]})),
    ] {
        let n = MAX_STEPS - beside;
        assert!(evaluated(rule(n), &list(n)).is_ok(), "{}", shown(&rule(n)));
        assert_eq!(evaluated(rule(n + 1), &list(n + 1)), Err(EvaluationError::TooManySteps), "{}", shown(&rule(n)));
    }
}

#[test]
fn each_kib_of_text_read_is_a_step() {
    const KIB: usize = 1024;
    let context = json!({"text": format!("{}1", " ".repeat(300 * KIB - 1)), "short": "x".repeat(KIB - 1)});
    let (text, short) = (json!({"var": "text"}), json!({"var": "short"}));
    for (cost, rule) in [
        (5 + 600, json!({"==": [text, text]})),
        (6 + 300, json!({"===": [text, text]})),
        (5 + 300, json!({"<": [text, text]})),
        (4 + 300, json!({"<": [text, 1]})),
        (4 + 300, json!({"in": ["2", text]})),
        (4 + 300, json!({"in": [text, "2"]})),
        (3 + 300, json!({"var": text})),
        (5 + 300, json!({"substr": [text, 0, 1]})),
        (4, json!({"in": ["2", short]})),
    ] {
        let (times, rest) = ((MAX_STEPS - 1) / cost, (MAX_STEPS - 1) % cost);
        let counted = |zeros| {
            let arguments = [vec![rule.clone(); times], vec![json!(0); zeros]].concat();
            json!({ "count": arguments })
        };
        assert!(evaluated(counted(rest), &context).is_ok(), "{rule}");
        assert_eq!(evaluated(counted(rest + 1), &context), Err(EvaluationError::TooManySteps), "{rule}");
    }
}

#[test]
fn texts_produced_count_by_their_bytes() {
    let context = |n: usize| json!({"text": "x".repeat(n), "number": 12345, "yes": true});
    for (rule, beside) in [
        (json!({"cat": {"var": "text"}}), 0),
        (json!({"substr": [{"var": "text"}, 0]}), 0),
        (json!({"var": "text"}), PLACE),
        // A number's text is made, and then made part of another.
        (json!({"cat": [{"var": "text"}, {"var": "number"}]}), 10),
        (json!({"cat": [{"var": "text"}, true]}), 8),
        (json!({"cat": [{"var": "text"}, []]}), PLACE + 4),
        (json!({"if": [{"==": [{"var": "number"}, "x"]}, 0, {"cat": {"var": "text"}}]}), 5),
        (json!([{"var": "text"}]), PLACE),
    ] {
        let n = MAX_OUTPUT - beside;
        assert!(evaluated(rule.clone(), &context(n)).is_ok(), "{rule}");
        assert_eq!(evaluated(rule.clone(), &context(n + 1)), Err(EvaluationError::TooMuchOutput), "{rule}");
    }
    let wide = json!({"text": "ä".repeat(MAX_OUTPUT / 2 + 1)});
    assert_eq!(evaluated(json!({"cat": {"var": "text"}}), &wide), Err(EvaluationError::TooMuchOutput));
}

#[test]
fn values_copied_count_by_their_elements_and_texts() {
    const PLACES: usize = MAX_OUTPUT / PLACE;
    let zeros = |n: usize| json!({"list": vec![0; n]});
    for (rule, beside) in [
        (json!({"merge": {"var": "list"}}), 0),
        (json!({"merge": [{"var": "list"}, 1, [2, 3]]}), 3),
        (json!({"var": "list"}), 1),
        (json!([{"var": "list"}, {"var": "absent"}]), 2),
        (json!({"reduce": [[0], {"var": "accumulator"}, {"cat": ""}]}), PLACES),
        (json!({"reduce": [[], 0, {"var": "list"}]}), 1),
        (json!({"var": ""}), 2),
    ] {
        let n = PLACES - beside;
        // The key of the whole context costs its four bytes.
        let n = if rule == json!({"var": ""}) { n - 1 } else { n };
        assert!(evaluated(rule.clone(), &zeros(n)).is_ok(), "{rule}");
        if beside < PLACES {
            assert_eq!(evaluated(rule.clone(), &zeros(n + 1)), Err(EvaluationError::TooMuchOutput), "{rule}");
        }
    }
    let keys = |n: usize| json!({"k".repeat(n): 0});
    let n = MAX_OUTPUT - 2 * PLACE;
    assert!(evaluated(json!({"var": ""}), &keys(n)).is_ok());
    assert_eq!(evaluated(json!({"var": ""}), &keys(n + 1)), Err(EvaluationError::TooMuchOutput));
}

#[test]
fn a_large_context_is_looked_at_without_being_copied() {
    let context = json!({"list": vec![json!({"name": "x".repeat(500)}); 4000], "text": "y".repeat(3 * MAX_OUTPUT)});
    for rule in [
        json!({"var": ""}),
        json!({"var": "list"}),
        json!({"or": [0, {"var": "list"}]}),
        json!({"if": [{"var": "text"}, {"var": ""}, 0]}),
        json!({"log": {"var": "text"}}),
        json!({"in": ["yy", {"var": "text"}]}),
        json!({"all": [{"var": "list"}, true]}),
        json!({"some": [{"var": "list"}, {"var": "name"}]}),
        json!({"reduce": [{"var": "list"}, true, {"var": "list.0"}]}),
    ] {
        assert_eq!(parsed(rule.clone()).matches(&context), Ok(true), "{rule}");
    }
    assert_eq!(evaluated(json!({"var": "list"}), &context), Err(EvaluationError::TooMuchOutput));
}

#[test]
fn values_made_copied_or_compared_are_nested_64_deep_at_most() {
    let context = |depth: usize| json!({"deep": lists(depth), "again": lists(depth)});
    let deep = json!({"var": "deep"});
    for (rule, most) in [
        (json!({"var": "deep"}), MAX_DEPTH),
        (json!({"var": ""}), MAX_DEPTH - 1),
        (json!([deep, 1]), MAX_DEPTH - 1),
        (json!({"merge": [deep]}), MAX_DEPTH),
        (json!({"merge": [[deep]]}), MAX_DEPTH - 1),
        (json!({"filter": [deep, 1]}), MAX_DEPTH),
        (json!({"map": [[1, 2], deep]}), MAX_DEPTH + 1000),
        (json!({"map": [deep, {"var": ""}]}), MAX_DEPTH),
        (json!({"reduce": [deep, {"var": "current"}]}), MAX_DEPTH + 1),
        (json!({"reduce": [[0], {"var": ""}, deep]}), MAX_DEPTH - 1),
        (json!({"===": [deep, {"var": "again"}]}), MAX_DEPTH),
        (json!({"==": [deep, {"var": "again"}]}), MAX_DEPTH),
        (json!({"in": [deep, [1, 2]]}), MAX_DEPTH + 1000),
        (json!({"cat": deep}), MAX_DEPTH),
        (json!({"!": deep}), MAX_DEPTH + 1000),
    ] {
        assert!(evaluated(rule.clone(), &context(most)).is_ok(), "{rule}");
        if most <= MAX_DEPTH + 1 {
            assert_eq!(evaluated(rule.clone(), &context(most + 1)), Err(EvaluationError::TooDeep), "{rule}");
        }
    }
    let wrapped = |n: usize| json!({"reduce": [vec![0; n], [{"var": "accumulator"}], 0]});
    assert_eq!(evaluated(wrapped(MAX_DEPTH), &json!({})).map(|value| depth(&value)), Ok(MAX_DEPTH));
    assert_eq!(evaluated(wrapped(MAX_DEPTH + 1), &json!({})), Err(EvaluationError::TooDeep));
}

/// How many lists and objects are in each other.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// What a value takes: a place for each value, and the bytes of texts.
pub(crate) fn size(value: &Value) -> usize {
    PLACE
        + match value {
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(object) => object.iter().map(|(key, value)| key.len() + size(value)).sum(),
            Value::String(text) => text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// `rule` within itself, at the place of its `"HERE"`, `times` over.
fn within_itself(rule: &Value, times: usize) -> Value {
    fn put(inner: &Value, here: Value) -> Value {
        match here {
            Value::Array(items) => items.into_iter().map(|item| put(inner, item)).collect(),
            Value::Object(object) => object.into_iter().map(|(key, value)| (key, put(inner, value))).collect(),
            Value::String(text) if text == "HERE" => inner.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => here,
        }
    }
    (0..times).fold(json!(1), |inner, _| put(&inner, rule.clone()))
}

#[test]
fn hostile_rules_end_in_an_error_or_in_an_answer_of_bounded_size() {
    use EvaluationError::{DivisionByZero, NotANumber, NumberTooLarge, TooDeep, TooManySteps, TooMuchOutput};
    let context = json!({
        "many": vec![1; 200_000], "digits": "9".repeat(200_000), "spaces": " ".repeat(200_000), "dots": ".".repeat(200_000),
        "zeros": format!("many.{}1", "0".repeat(200_000)), "controls": "\u{1}".repeat(300_000), "hundred": vec![1; 100],
        "path": ["path.0", "many"], "texts": vec!["x".repeat(1000); 300], "deep": lists(120),
    });
    let (many, hundred) = (json!({"var": "many"}), json!({"var": "hundred"}));
    let (current, accumulator) = (json!({"var": "current"}), json!({"var": "accumulator"}));
    let reduce = |list: &Value, body: Value, start: Value| json!({"reduce": [list, body, start]});
    let doubled = json!({"cat": ["HERE", "HERE"]});
    let rows: Vec<(Value, Option<EvaluationError>)> = vec![
        // Texts and lists that double.
        (reduce(&hundred, json!({"cat": [accumulator, accumulator]}), json!("ha")), Some(TooMuchOutput)),
        (reduce(&hundred, json!({"merge": [accumulator, accumulator]}), json!([1])), Some(TooMuchOutput)),
        (reduce(&hundred, json!([accumulator, accumulator]), json!([])), Some(TooMuchOutput)),
        (reduce(&hundred, json!({"map": [[1, 2], accumulator]}), json!(0)), None),
        (
            reduce(&hundred, json!({"merge": [{"map": [accumulator, [1]]}, accumulator]}), json!([1])),
            Some(TooMuchOutput),
        ),
        (reduce(&hundred, json!({"var": ""}), json!(0)), Some(TooDeep)),
        (reduce(&hundred, json!({"cat": [[accumulator]]}), json!("\"\\")), Some(TooMuchOutput)),
        (within_itself(&doubled, 10), None),
        // Lists that grow by themselves, and nested as deep as they may.
        (reduce(&many, json!({"merge": [accumulator, current]}), json!([])), Some(TooMuchOutput)),
        (reduce(&many, json!([accumulator]), json!(0)), Some(TooDeep)),
        (
            reduce(&hundred, json!({"cat": [accumulator, {"var": "accumulator"}, many]}), json!("x")),
            Some(TooMuchOutput),
        ),
        // Loops in loops.
        (within_itself(&json!({"map": [hundred, "HERE"]}), 2), None),
        (json!({"map": [hundred, {"map": [vec![1; 200], {"var": ""}]}]}), Some(TooManySteps)),
        (within_itself(&json!({"map": [[1, 2, 3, 4, 5, 6, 7, 8], "HERE"]}), 30), Some(TooMuchOutput)),
        (within_itself(&json!({"filter": [[1, 2, 3], "HERE"]}), 30), Some(TooManySteps)),
        (within_itself(&json!({"all": [[1, 2, 3], "HERE"]}), 30), Some(TooManySteps)),
        (within_itself(&json!({"reduce": [[1, 2, 3], "HERE", "HERE"]}), 5), None),
        (within_itself(&json!({"none": [[0, 0], {"!": "HERE"}]}), 31), Some(TooManySteps)),
        // Large data.
        (json!({"map": [many, 1]}), Some(TooManySteps)),
        (json!({"in": [2, many]}), Some(TooManySteps)),
        (json!({"==": [many, many]}), Some(TooManySteps)),
        (json!({"missing": many}), Some(TooManySteps)),
        (json!({"missing_some": [1e300, many]}), Some(TooManySteps)),
        (json!({"merge": [many]}), Some(TooMuchOutput)),
        (json!({"==": [many, "1"]}), Some(TooMuchOutput)),
        (json!({"var": many}), Some(TooMuchOutput)),
        (
            json!({"cat": [{"var": "controls"}, {"var": "controls"}, {"var": "controls"}, {"var": "controls"}]}),
            Some(TooMuchOutput),
        ),
        (json!({"cat": [[{"var": "controls"}]]}), Some(TooMuchOutput)),
        (reduce(&json!({"var": "texts"}), json!({"cat": [accumulator, current]}), json!("")), Some(TooMuchOutput)),
        (json!({"max": vec![many.clone(); 100]}), Some(NotANumber("a list"))),
        (json!({"min": vec![1; 20_000]}), Some(TooManySteps)),
        (json!({"map": [vec![1; 9000], {"var": "x"}]}), Some(TooManySteps)),
        // Paths.
        (json!({"var": {"var": "dots"}}), None),
        (json!({"var": {"var": "zeros"}}), None),
        (json!({"var": {"var": {"var": {"var": "path.0"}}}}), None),
        (json!({"var": "0.".repeat(200_000)}), None),
        (json!({"var": format!("deep{}", ".0".repeat(119))}), None),
        (json!({"map": [hundred, {"missing": [{"var": ""}, "", {}, [], null]}]}), None),
        // Numbers.
        (reduce(&hundred, json!({"*": [accumulator, 1e10]}), json!(1)), Some(NumberTooLarge)),
        (reduce(&hundred, json!({"*": [accumulator, accumulator]}), json!(i64::MIN)), Some(NumberTooLarge)),
        (reduce(&hundred, json!({"-": [accumulator, 1e308]}), json!(0)), Some(NumberTooLarge)),
        (reduce(&hundred, json!({"/": [accumulator, 1e10]}), json!(1)), None),
        (json!({"-": [{"*": [1e308, 10]}, {"*": [1e308, 10]}]}), Some(NumberTooLarge)),
        (json!({"%": [{"-": [0.0]}, {"-": [0.0]}]}), Some(DivisionByZero)),
        (json!({"/": [i64::MIN, -1]}), None),
        (json!({"%": [i64::MIN, -1]}), None),
        (json!({"*": [{"var": "digits"}, 1]}), Some(NotANumber("a text"))),
        (json!({"+": [{"var": "spaces"}]}), Some(NotANumber("a text"))),
        (json!({"+": ["nan"]}), Some(NotANumber("a text"))),
        (json!({"substr": ["abc", i64::MIN, i64::MIN]}), None),
        (json!({"substr": ["abc", u64::MAX, i64::MIN]}), None),
        (json!({"substr": ["abc", i64::MIN, u64::MAX]}), None),
        (json!({"substr": [{"var": "controls"}, -1e308, 1e308]}), None),
    ];
    for (rule, wanted) in &rows {
        let found = evaluated(rule.clone(), &context);
        if found.as_ref().err() != wanted.as_ref() {
            eprintln!("left: {wanted:?} found {:?} {rule:.100}", found.err());
            continue;
        }
        assert_eq!(found.as_ref().err(), wanted.as_ref(), "{}", shown(rule));
        if let Ok(value) = found {
            assert!(size(&value) <= MAX_OUTPUT + 64 && depth(&value) <= MAX_DEPTH, "{}", shown(rule));
        }
    }
}

#[test]
fn the_deepest_rules_and_data_need_little_stack() {
    let deepest = [
        json!({"map": [[1], "HERE"]}),
        json!({"reduce": [[1], "HERE", 0]}),
        json!({"if": [1, "HERE"]}),
        json!({"and": [1, "HERE"]}),
        json!({"cat": ["HERE"]}),
        json!({"missing": ["HERE"]}),
        json!({"+": ["HERE"]}),
        json!({"substr": ["HERE", 0]}),
        json!({"?:": [{"all": [[1], 1]}, "HERE", 0]}),
        json!(["HERE"]),
    ]
    .map(|rule| within_itself(&rule, MAX_DEPTH - 2));
    let context = Value::from_iter([("deep", lists(2000))]);
    let evaluations = move || {
        for rule in deepest {
            assert!(parsed(rule.clone()).evaluate(&context).is_ok(), "{}", shown(&rule));
        }
        let deep = json!({"var": "deep"});
        for rule in [json!({"==": [deep, deep]}), json!({"merge": [deep]}), json!({"cat": deep}), json!([deep])] {
            assert_eq!(evaluated(rule, &context), Err(EvaluationError::TooDeep));
        }
        assert_eq!(evaluated(json!({"var": format!("deep{}", ".0".repeat(1999))}), &context), Ok(json!([])));
    };
    thread::Builder::new().stack_size(1 << 20).spawn(evaluations).unwrap().join().unwrap();
}

//! The operators of expressions: their names, and how many arguments they take.

use std::ops::RangeInclusive;

const ANY: RangeInclusive<usize> = 0..=usize::MAX;

macro_rules! operators {
    ($($operator:ident $name:literal $takes:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operator { $($operator,)* }

        impl Operator {
            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$operator),)*
                    _ => None,
                }
            }

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$operator => $name,)* }
            }

            /// Fewer or more would be an error whatever the data, or be ignored.
            pub(super) fn takes(self) -> RangeInclusive<usize> {
                match self { $(Self::$operator => $takes,)* }
            }
        }
    };
}
operators! {
    Var "var" 0..=2;
    Missing "missing" ANY;
    MissingSome "missing_some" 2..=2;

    If "if" ANY;
    Ternary "?:" 3..=3;
    And "and" ANY;
    Or "or" ANY;
    Not "!" 1..=1;
    Truth "!!" 1..=1;

    Equal "==" 2..=2;
    NotEqual "!=" 2..=2;
    Same "===" 2..=2;
    NotSame "!==" 2..=2;
    Less "<" 2..=3;
    LessOrEqual "<=" 2..=3;
    Greater ">" 2..=3;
    GreaterOrEqual ">=" 2..=3;

    Add "+" ANY;
    Subtract "-" 1..=2;
    Multiply "*" ANY;
    Divide "/" 2..=2;
    Remainder "%" 2..=2;
    Minimum "min" ANY;
    Maximum "max" ANY;

    Concatenate "cat" ANY;
    Substring "substr" 2..=3;

    In "in" 2..=2;
    Merge "merge" ANY;
    Count "count" ANY;
    Map "map" 2..=2;
    Filter "filter" 2..=2;
    Reduce "reduce" 2..=3;
    All "all" 2..=2;
    None "none" 2..=2;
    Some "some" 2..=2;

    Log "log" 1..=1;
}

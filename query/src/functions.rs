//! The functions that SQL may call: this list and no other. Each name is one of DataFusion's own, and `json_text`.
//!
//! What is missing is missing on purpose; [`REFUSED`] names it with the reason, and a test fails when a new version
//! of DataFusion brings a function that stands in neither list. Not here: bounds of arguments ([`crate::guard`]).
//!
//! Invariants: no function reads a file, a setting, a random number or a path; there are no table functions.

use crate::json_text::JsonText;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use std::collections::HashSet;
use std::sync::Arc;

/// Functions of a row's values.
const SCALAR: &[&str] = &[
    // choice and comparison
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    "arrow_typeof", // text
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "levenshtein",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "overlay",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "to_hex",
    "translate",
    "upper", // patterns (linear time)
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_replace", // time
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "make_time",
    "now",
    "to_char",
    "to_date",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime", // numbers
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "power",
    "radians",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
];

/// Functions of many rows.
const AGGREGATE: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// Functions of a row and its neighbours.
const WINDOW: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// What DataFusion brings and SQL may not call, with the reason.
#[cfg(test)]
const REFUSED: &[(&str, &str)] = &[
    ("arrow_cast", "names Arrow's types, which are no promise of ours; cast does it"),
    ("arrow_try_cast", "names Arrow's types, which are no promise of ours; try_cast does it"),
    ("cast_to_type", "casts to a type that data chooses"),
    ("try_cast_to_type", "casts to a type that data chooses"),
    ("arrow_field", "shows metadata of files"),
    ("arrow_metadata", "shows metadata of files"),
    ("with_metadata", "writes metadata into answers"),
    ("input_file_name", "shows where a segment is"),
    ("file_row_index", "shows how a segment is cut"),
    ("version", "tells an attacker what to look up"),
    ("random", "an answer could not be asked again"),
    ("uuid", "an answer could not be asked again"),
    ("encode", "our tables have no columns of bytes"),
    ("decode", "our tables have no columns of bytes"),
    ("get_field", "our tables have no nested columns"),
    ("named_struct", "our tables have no nested columns"),
    ("struct", "our tables have no nested columns"),
    ("union_extract", "our tables have no nested columns"),
    ("union_tag", "our tables have no nested columns"),
];

/// The functions of every session, made once.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    /// Functions of a row's values.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// Functions of many rows.
    pub aggregate: Vec<Arc<AggregateUDF>>,
    /// Functions of a row and its neighbours.
    pub window: Vec<Arc<WindowUDF>>,
    /// All names, aliases included, in lower case.
    names: Arc<HashSet<String>>,
}

impl Functions {
    /// Takes from DataFusion what the lists name.
    pub fn allowed() -> Self {
        let mut scalar = SessionStateDefaults::default_scalar_functions();
        scalar.retain(|function| SCALAR.contains(&function.name()));
        scalar.push(Arc::new(ScalarUDF::new_from_impl(JsonText::new())));
        let mut aggregate = SessionStateDefaults::default_aggregate_functions();
        aggregate.retain(|function| AGGREGATE.contains(&function.name()));
        let mut window = SessionStateDefaults::default_window_functions();
        window.retain(|function| WINDOW.contains(&function.name()));
        let mut names = HashSet::new();
        let mut add = |name: &str, aliases: &[String]| {
            names.insert(name.to_lowercase());
            names.extend(aliases.iter().map(|alias| alias.to_lowercase()));
        };
        scalar.iter().for_each(|f| add(f.name(), f.aliases()));
        aggregate.iter().for_each(|f| add(f.name(), f.aliases()));
        window.iter().for_each(|f| add(f.name(), f.aliases()));
        Self { scalar, aggregate, window, names: Arc::new(names) }
    }

    /// Whether SQL may call a function by this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(&name.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecided(given: Vec<String>, listed: &[&str]) -> Vec<String> {
        given
            .into_iter()
            .filter(|name| !listed.contains(&name.as_str()) && !REFUSED.iter().any(|(refused, _)| refused == name))
            .collect()
    }

    #[test]
    fn every_function_of_the_engine_is_listed_or_refused_with_a_reason() {
        let scalar = SessionStateDefaults::default_scalar_functions().iter().map(|f| f.name().to_string()).collect();
        let aggregate =
            SessionStateDefaults::default_aggregate_functions().iter().map(|f| f.name().to_string()).collect();
        let window = SessionStateDefaults::default_window_functions().iter().map(|f| f.name().to_string()).collect();
        let undecided =
            [undecided(scalar, SCALAR), undecided(aggregate, AGGREGATE), undecided(window, WINDOW)].concat();
        assert_eq!(
            undecided,
            Vec::<String>::new(),
            "put each into a list of functions.rs, or into REFUSED with the reason"
        );
    }

    #[test]
    fn every_listed_function_exists() {
        let functions = Functions::allowed();
        for name in
            SCALAR.iter().chain(AGGREGATE).chain(WINDOW).chain(&["json_text", "date_format", "substring", "length"])
        {
            assert!(functions.has(name), "{name} is listed and not there");
        }
        assert_eq!(
            (functions.scalar.len(), functions.aggregate.len(), functions.window.len()),
            (SCALAR.len() + 1, AGGREGATE.len(), WINDOW.len())
        );
        for (name, _) in REFUSED {
            assert!(!functions.has(name), "{name}");
        }
        for name in
            ["read_csv", "read_parquet", "generate_series", "range", "unnest", "pg_sleep", "sleep", "getvariable"]
        {
            assert!(!functions.has(name), "{name}");
        }
    }
}

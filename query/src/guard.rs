//! Which SQL runs at all, decided on its text and syntax before anything is planned.
//!
//! One statement; `SELECT` (with `WITH` or `VALUES`) or `EXPLAIN` of one; functions of the list only; bounded in length,
//! nesting and operators, so that neither parser nor planner can be made to work long or deep. Not here: which
//! tables exist ([`crate::session`] holds only the granted ones), what running may use ([`crate::limits`]).
//!
//! Invariant: whatever is not known to be harmless is refused, with a sentence that says what would be right.

use crate::functions::Functions;
use datafusion::sql::parser::{DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, Select,
    Statement as SqlStatement, TableFactor, Value, ValueWithSpan, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

/// Longest text of a query, in bytes: an incident's list of a thousand identifiers fits.
pub const SQL_BYTES: usize = 64 * 1_024;
/// Deepest nesting of brackets and subqueries.
pub const NESTING: usize = 40;
/// Most operators: each is a level of a chain that planner and optimizer walk down.
pub const OPERATORS: usize = 1_000;
/// Most `SELECT`s, joins and set operations.
pub const PARTS: usize = 64;
/// Greatest size that `repeat`, `lpad` and `rpad` take, and greatest product of all sizes given to `repeat`.
pub const TEXT_SIZE: u64 = 10_000;

/// Why a text is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is too long.
    #[error("the query is longer than {} KiB", SQL_BYTES / 1_024)]
    TooLong,
    /// The text is no SQL.
    #[error("the query does not parse: {0}")]
    Syntax(String),
    /// There is not exactly one statement.
    #[error("one statement at a time, and there are {0}")]
    Statements(usize),
    /// It is something else than a query.
    #[error("only SELECT, and EXPLAIN of a SELECT, can be run: this service answers questions and changes nothing")]
    NotSelect,
    /// `WITH RECURSIVE`.
    #[error("recursive queries are not supported; join or aggregate instead")]
    Recursive,
    /// A table function, a sample, a version: anything in `FROM` that is no plain table or subquery.
    #[error("only tables and subqueries can stand in FROM: table functions, UNNEST, samples and versions cannot")]
    From,
    /// A qualified table.
    #[error("there is one schema: write audit, telemetry, access or grants, without a prefix")]
    Qualified,
    /// A function that is not on the list.
    #[error("there is no function {0} here: a query may call the functions of a fixed list, and json_text")]
    Function(String),
    /// A size that is no small literal.
    #[error(
        "sizes in repeat, lpad and rpad are literals of at most {TEXT_SIZE}, and those in repeat multiply to at most {TEXT_SIZE}"
    )]
    Size,
    /// A parameter or variable.
    #[error("parameters and variables are not supported: write the value into the query")]
    Parameter,
    /// A clause that belongs to writing, locking or another product.
    #[error("{0} is not supported")]
    Clause(&'static str),
    /// Nested too deeply.
    #[error("the query is nested deeper than {NESTING} levels")]
    TooDeep,
    /// Too many operators or parts.
    #[error(
        "the query has more than {OPERATORS} operators or {PARTS} parts (SELECT, JOIN, UNION); use IN (…) for long lists"
    )]
    TooMany,
}

/// Longest part of a caller's own text that a message repeats, in bytes.
const ECHO_BYTES: usize = 200;

fn echo(text: &str) -> String {
    let mut end = text.len().min(ECHO_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}

/// The statement, if it is one that is run.
///
/// # Errors
/// Why not.
pub(crate) fn parse(sql: &str, functions: &Functions) -> Result<Statement, Refused> {
    if sql.len() > SQL_BYTES {
        return Err(Refused::TooLong);
    }
    measure(sql)?;
    let dialect = GenericDialect {};
    let parser = DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(NESTING).build();
    let statements =
        parser.and_then(|mut parser| parser.parse_statements()).map_err(|e| Refused::Syntax(echo(&syntax(&e))))?;
    let mut statements: Vec<Statement> = statements.into();
    match (statements.len(), statements.pop()) {
        (1, Some(statement)) => {
            let mut check = Check { functions, repeats: 1 };
            match query_of(&statement)?.visit(&mut check) {
                ControlFlow::Continue(()) => Ok(statement),
                ControlFlow::Break(refused) => Err(refused),
            }
        }
        (count, _) => Err(Refused::Statements(count)),
    }
}

/// Whether a text is just one expression, so that nothing of it reaches beyond the parentheses it is put into.
pub(crate) fn is_expression(text: &str) -> Result<(), Refused> {
    if text.len() > SQL_BYTES {
        return Err(Refused::TooLong);
    }
    measure(text)?;
    let dialect = GenericDialect {};
    let parsed = Parser::new(&dialect).with_recursion_limit(NESTING).try_with_sql(text).and_then(|mut parser| {
        parser.parse_expr()?;
        parser.expect_token(&Token::EOF)
    });
    parsed.map(drop).map_err(|error| Refused::Syntax(echo(error.to_string().trim_start_matches("sql parser error: "))))
}

fn syntax(error: &datafusion::error::DataFusionError) -> String {
    match error.find_root() {
        datafusion::error::DataFusionError::SQL(parser, _) => {
            parser.to_string().trim_start_matches("sql parser error: ").into()
        }
        datafusion::error::DataFusionError::Diagnostic(_, inner) => syntax(inner),
        other => other.strip_backtrace(),
    }
}

fn query_of(statement: &Statement) -> Result<&Query, Refused> {
    let plain = |statement: &Statement| matches!(statement, Statement::Statement(_));
    match statement {
        Statement::Statement(sql) => match sql.as_ref() {
            SqlStatement::Query(query) => Ok(query),
            _ => Err(Refused::NotSelect),
        },
        Statement::Explain(ExplainStatement { statement, .. }) if plain(statement) => query_of(statement),
        _ => Err(Refused::NotSelect),
    }
}

/// Bounds the text before it is parsed: nesting, operators and parts are counted in its tokens.
fn measure(sql: &str) -> Result<(), Refused> {
    let tokens =
        Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|e| Refused::Syntax(echo(&e.to_string())))?;
    let (mut depth, mut operators, mut parts) = (0usize, 0usize, 0usize);
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Placeholder(_) | Token::AtSign | Token::AtAt => return Err(Refused::Parameter),
            Token::Comma | Token::Whitespace(_) | Token::Period | Token::SemiColon | Token::EOF => {}
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_ascii_uppercase().as_str() {
                "SELECT" | "VALUES" | "JOIN" | "UNION" | "INTERSECT" | "EXCEPT" => parts += 1,
                "AND" | "OR" | "NOT" | "IS" | "LIKE" | "ILIKE" | "BETWEEN" | "IN" | "CASE" | "WHEN" => operators += 1,
                _ => {}
            },
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {}
            _ => operators += 1,
        }
        if depth > NESTING {
            return Err(Refused::TooDeep);
        }
    }
    if operators > OPERATORS || parts > PARTS { Err(Refused::TooMany) } else { Ok(()) }
}

/// Walks the syntax tree; breaks at the first thing that is refused.
struct Check<'a> {
    functions: &'a Functions,
    repeats: u64,
}

impl Check<'_> {
    fn function(&mut self, function: &Function) -> Result<(), Refused> {
        let name = match &function.name.0[..] {
            [part] => part.as_ident().map(|ident| ident.value.as_str()),
            _ => None,
        };
        let name = name
            .filter(|name| self.functions.has(name))
            .ok_or_else(|| Refused::Function(echo(&function.name.to_string())))?;
        match name.to_lowercase().as_str() {
            "repeat" => {
                self.repeats = self.repeats.saturating_mul(size_of(function)?.max(1));
                if self.repeats > TEXT_SIZE { Err(Refused::Size) } else { Ok(()) }
            }
            "lpad" | "rpad" => size_of(function).map(drop),
            _ => Ok(()),
        }
    }
}

/// The second argument of `repeat`, `lpad` or `rpad`.
fn size_of(function: &Function) -> Result<u64, Refused> {
    let FunctionArguments::List(list) = &function.args else { return Err(Refused::Size) };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) = list.args.get(1) else {
        return Err(Refused::Size);
    };
    let Value::Number(digits, _) = &value.value else { return Err(Refused::Size) };
    digits.parse::<u64>().ok().filter(|size| *size <= TEXT_SIZE).ok_or(Refused::Size)
}

fn refuse_if(refused: bool, why: Refused) -> ControlFlow<Refused> {
    if refused { ControlFlow::Break(why) } else { ControlFlow::Continue(()) }
}

impl Visitor for Check<'_> {
    type Break = Refused;

    fn pre_visit_statement(&mut self, _statement: &SqlStatement) -> ControlFlow<Refused> {
        // The walk begins at a query: a statement inside one writes.
        ControlFlow::Break(Refused::NotSelect)
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        refuse_if(query.with.as_ref().is_some_and(|with| with.recursive), Refused::Recursive)?;
        refuse_if(!query.locks.is_empty(), Refused::Clause("FOR UPDATE"))?;
        refuse_if(query.for_clause.is_some(), Refused::Clause("FOR XML or FOR JSON"))?;
        refuse_if(query.settings.is_some(), Refused::Clause("SETTINGS"))?;
        refuse_if(query.format_clause.is_some(), Refused::Clause("FORMAT"))?;
        refuse_if(!query.pipe_operators.is_empty(), Refused::Clause("the pipe operator"))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        refuse_if(select.into.is_some(), Refused::Clause("SELECT INTO"))?;
        refuse_if(!select.lateral_views.is_empty(), Refused::Clause("LATERAL VIEW"))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refused> {
        refuse_if(relation.0.len() != 1, Refused::Qualified)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        let plain = match factor {
            TableFactor::Table {
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                let bare = args.is_none() && version.is_none() && json_path.is_none() && sample.is_none();
                bare && with_hints.is_empty() && !*with_ordinality && partitions.is_empty() && index_hints.is_empty()
            }
            TableFactor::Derived { sample, .. } => sample.is_none(),
            TableFactor::NestedJoin { .. } => true,
            _ => false,
        };
        refuse_if(!plain, Refused::From)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refused> {
        match expr {
            Expr::Function(function) => match self.function(function) {
                Ok(()) => ControlFlow::Continue(()),
                Err(refused) => ControlFlow::Break(refused),
            },
            Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => ControlFlow::Break(Refused::Parameter),
            Expr::Identifier(name) => refuse_if(name.value.starts_with('@'), Refused::Parameter),
            Expr::CompoundIdentifier(names) => {
                refuse_if(names.iter().any(|name| name.value.starts_with('@')), Refused::Parameter)
            }
            Expr::Dictionary(_) | Expr::Map(_) | Expr::Struct { .. } | Expr::Array(_) => {
                ControlFlow::Break(Refused::Clause("a nested value"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

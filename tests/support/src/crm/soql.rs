//! Reads the part of SOQL that is understood here: one object, one condition, one order.
//!
//! ```text
//! SELECT Id, Name FROM Account WHERE Name LIKE 'O\'B%' AND (Industry = 'Ports' OR Phone != null)
//!     ORDER BY Name DESC LIMIT 5
//! ```
//!
//! Words and literals are those of the "SOQL and SOSL Reference". Where it forbids to mix `AND` and `OR` without
//! parentheses, `AND` binds more tightly.

mod lexer;

use std::fmt;

use lexer::{Token, tokens};

/// How deep parentheses may nest. Reading is recursive, and the query comes from outside.
const MOST_DEPTH: usize = 32;

/// A query.
#[derive(Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) fields: Vec<String>,
    pub(crate) object: String,
    pub(crate) filter: Option<Filter>,
    pub(crate) order: Option<Order>,
    pub(crate) limit: Option<usize>,
}

/// A condition on a record.
#[derive(Debug, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Compare { field: String, operator: Operator, value: Literal },
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

/// What a field is compared with.
#[derive(Debug, PartialEq)]
pub(crate) enum Literal {
    Text(Vec<Letter>),
    Number(i64),
    Bool(bool),
    Null,
}

/// A character of a string literal. One that was escaped is no wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) character: char,
    pub(crate) escaped: bool,
}

/// By what records are sorted.
#[derive(Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) field: String,
    pub(crate) descending: bool,
}

/// Why a query was not run.
#[derive(Debug, PartialEq)]
pub(crate) enum QueryError {
    Malformed(String),
    NoField { object: &'static str, field: String },
    NoObject(String),
}

/// Reads a query.
pub(crate) fn parse(soql: &str) -> Result<Query, QueryError> {
    let tokens = tokens(soql)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let query = parser.query()?;
    match parser.tokens {
        [] => Ok(query),
        [token, ..] => Err(unexpected(Some(token))),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn query(&mut self) -> Result<Query, QueryError> {
        self.expect("SELECT")?;
        let mut fields = vec![self.name()?];
        while self.takes(&Token::Symbol(",")) {
            fields.push(self.name()?);
        }
        self.expect("FROM")?;
        let object = self.name()?;
        let filter = if self.takes_word("WHERE") { Some(self.any()?) } else { None };
        let order = if self.takes_word("ORDER") { Some(self.order()?) } else { None };
        let limit = if self.takes_word("LIMIT") { Some(self.count()?) } else { None };
        Ok(Query { fields, object, filter, order, limit })
    }

    fn any(&mut self) -> Result<Filter, QueryError> {
        let mut parts = vec![self.all()?];
        while self.takes_word("OR") {
            parts.push(self.all()?);
        }
        Ok(only(parts).unwrap_or_else(Filter::Any))
    }

    fn all(&mut self) -> Result<Filter, QueryError> {
        let mut parts = vec![self.condition()?];
        while self.takes_word("AND") {
            parts.push(self.condition()?);
        }
        Ok(only(parts).unwrap_or_else(Filter::All))
    }

    fn condition(&mut self) -> Result<Filter, QueryError> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(QueryError::Malformed(format!("conditions nest more than {MOST_DEPTH} deep")));
        }
        let condition = if self.takes_word("NOT") {
            Filter::Not(Box::new(self.condition()?))
        } else if self.takes(&Token::Symbol("(")) {
            let inner = self.any()?;
            if !self.takes(&Token::Symbol(")")) {
                return Err(unexpected(self.tokens.first()));
            }
            inner
        } else {
            let field = self.name()?;
            let operator = self.operator()?;
            let value = self.literal()?;
            if operator == Operator::Like && !matches!(value, Literal::Text(_)) {
                return Err(QueryError::Malformed("LIKE needs a string".to_owned()));
            }
            Filter::Compare { field, operator, value }
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn operator(&mut self) -> Result<Operator, QueryError> {
        let operator = match self.tokens.first() {
            Some(Token::Symbol("=")) => Operator::Equal,
            Some(Token::Symbol("!=" | "<>")) => Operator::NotEqual,
            Some(Token::Symbol("<")) => Operator::Less,
            Some(Token::Symbol("<=")) => Operator::LessOrEqual,
            Some(Token::Symbol(">")) => Operator::Greater,
            Some(Token::Symbol(">=")) => Operator::GreaterOrEqual,
            Some(token) if token.is_word("LIKE") => Operator::Like,
            other => return Err(unexpected(other)),
        };
        self.skip();
        Ok(operator)
    }

    fn literal(&mut self) -> Result<Literal, QueryError> {
        let literal = match self.tokens.first() {
            Some(Token::Text(letters)) => Literal::Text(letters.clone()),
            Some(token) if token.is_word("true") => Literal::Bool(true),
            Some(token) if token.is_word("false") => Literal::Bool(false),
            Some(token) if token.is_word("null") => Literal::Null,
            Some(Token::Word(word)) => Literal::Number(word.parse().map_err(|_| unexpected(self.tokens.first()))?),
            other => return Err(unexpected(other)),
        };
        self.skip();
        Ok(literal)
    }

    fn order(&mut self) -> Result<Order, QueryError> {
        self.expect("BY")?;
        let field = self.name()?;
        let descending = self.takes_word("DESC");
        if !descending {
            self.takes_word("ASC");
        }
        Ok(Order { field, descending })
    }

    fn count(&mut self) -> Result<usize, QueryError> {
        let first = self.tokens.first();
        let Some(count) = first.and_then(Token::word).and_then(|word| word.parse().ok()) else {
            return Err(unexpected(first));
        };
        self.skip();
        Ok(count)
    }

    fn name(&mut self) -> Result<String, QueryError> {
        match self.tokens.first() {
            Some(Token::Word(word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let name = word.clone();
                self.skip();
                Ok(name)
            }
            other => Err(unexpected(other)),
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), QueryError> {
        if self.takes_word(word) { Ok(()) } else { Err(unexpected(self.tokens.first())) }
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.tokens.first().is_some_and(|token| token.is_word(word));
        if is {
            self.skip();
        }
        is
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is = self.tokens.first() == Some(token);
        if is {
            self.skip();
        }
        is
    }

    fn skip(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }
}

/// The only part, or all of them back.
fn only(mut parts: Vec<Filter>) -> Result<Filter, Vec<Filter>> {
    match parts.pop() {
        Some(part) if parts.is_empty() => Ok(part),
        last => {
            parts.extend(last);
            Err(parts)
        }
    }
}

fn unexpected(token: Option<&Token>) -> QueryError {
    QueryError::Malformed(match token {
        Some(token) => format!("unexpected token: {token}"),
        None => "unexpected end of the query".to_owned(),
    })
}

impl QueryError {
    /// The API's word for it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MALFORMED_QUERY",
            Self::NoField { .. } => "INVALID_FIELD",
            Self::NoObject(_) => "INVALID_TYPE",
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => f.write_str(why),
            Self::NoField { object, field } => write!(f, "No such column '{field}' on entity '{object}'"),
            Self::NoObject(object) => write!(f, "sObject type '{object}' is not supported"),
        }
    }
}

#[cfg(test)]
mod tests;

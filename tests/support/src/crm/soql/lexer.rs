//! Cuts a query into words, symbols and string literals.

use std::fmt;

use super::{Letter, QueryError};

/// The smallest part that means something.
#[derive(Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword, name or number.
    Word(String),
    /// A string literal, without its quotes and escapes.
    Text(Vec<Letter>),
    /// Punctuation or an operator.
    Symbol(&'static str),
}

/// The longer come first: `<=` is not `<`.
const SYMBOLS: [&str; 9] = ["!=", "<>", "<=", ">=", "=", "<", ">", ",", "("];

impl Token {
    /// Keywords have no case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word().is_some_and(|own| own.eq_ignore_ascii_case(word))
    }

    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Text(letters) => {
                let text: String = letters.iter().map(|letter| letter.character).collect();
                write!(f, "'{text}'")
            }
            Self::Symbol(symbol) => f.write_str(symbol),
        }
    }
}

pub(super) fn tokens(soql: &str) -> Result<Vec<Token>, QueryError> {
    let mut tokens = Vec::new();
    let mut rest = soql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '\'' => literal(&rest[1..])?,
            ')' => (Token::Symbol(")"), &rest[1..]),
            c if is_of_word(c) => {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), &rest[end..])
            }
            c => {
                let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
                let symbol = symbol.ok_or_else(|| QueryError::Malformed(format!("unexpected token: {c}")))?;
                (Token::Symbol(symbol), &rest[symbol.len()..])
            }
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// Dots are for the fields of related objects, which are then refused by name.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// Reads to the end of a literal whose opening quote is read; gives what stands behind it. Escapes are those of
/// "Quoted String Escape Sequences".
fn literal(text: &str) -> Result<(Token, &str), QueryError> {
    let mut letters = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\'' => return Ok((Token::Text(letters), rest.as_str())),
            '\\' => {
                let escape = rest.next();
                let character = match escape.map(|c| c.to_ascii_lowercase()) {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some(c @ ('"' | '\'' | '\\' | '%' | '_')) => c,
                    Some('u') => {
                        let digits = rest.as_str().get(..4).unwrap_or_default();
                        let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                        rest = rest.as_str().get(4..).unwrap_or_default().chars();
                        character.ok_or_else(|| illegal("u"))?
                    }
                    Some(c) => return Err(illegal(c.encode_utf8(&mut [0; 4]))),
                    None => break,
                };
                letters.push(Letter { character, escaped: true });
            }
            c if c.is_control() => return Err(QueryError::Malformed("a control character in a string".to_owned())),
            character => letters.push(Letter { character, escaped: false }),
        }
    }
    Err(QueryError::Malformed("a string without its closing quote".to_owned()))
}

fn illegal(escape: &str) -> QueryError {
    QueryError::Malformed(format!("illegal escape sequence: \\{escape}"))
}

//! Columns to domain types. What does not parse was not written by this host: [`StoreError::Corrupt`], with the
//! place and never the value.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row as _, Type};

use crate::StoreError;

/// One row of a known table.
pub(crate) struct Fields<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl<'r> Fields<'r> {
    pub(crate) fn of(table: &'static str, row: &'r AnyRow) -> Self {
        Self { table, row }
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    /// A nullable column.
    pub(crate) fn optional<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: Decode<'r, Any> + Type<Any>,
    {
        self.get(column)
    }

    /// What is never negative.
    pub(crate) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.integer(column)?.try_into().map_err(|_| self.corrupt(column, "out of range"))
    }

    pub(crate) fn hash(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        self.bytes(column)?.try_into().map_err(|_| self.corrupt(column, "not 32 bytes"))
    }

    /// An id in the very form in which it is written: another spelling of the same id was put there by someone else.
    pub(crate) fn id<T: FromStr + fmt::Display>(&self, column: &'static str) -> Result<T, StoreError> {
        self.parsed(column, &self.text(column)?)
    }

    pub(crate) fn optional_id<T: FromStr + fmt::Display>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        self.optional::<String>(column)?.map(|text| self.parsed(column, &text)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.parse_json(column, &self.text(column)?)
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        self.optional::<String>(column)?.map(|text| self.parse_json(column, &text)).transpose()
    }

    pub(crate) fn corrupt(&self, column: &str, why: impl fmt::Display) -> StoreError {
        StoreError::corrupt(format!("{}.{column}", self.table), why)
    }

    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Any> + Type<Any>,
    {
        self.row.try_get(column).map_err(|_| self.corrupt(column, "of another type than it should be"))
    }

    fn parsed<T: FromStr + fmt::Display>(&self, column: &'static str, text: &str) -> Result<T, StoreError> {
        let value: T = text.parse().map_err(|_| self.corrupt(column, "not in the form it should have"))?;
        if value.to_string() == text {
            Ok(value)
        } else {
            Err(self.corrupt(column, "not in the form it is written in"))
        }
    }

    fn parse_json<T: DeserializeOwned>(&self, column: &'static str, text: &str) -> Result<T, StoreError> {
        // The parser's message may quote the value; its place does not.
        serde_json::from_str(text).map_err(|e| {
            self.corrupt(column, format_args!("not the JSON it should be, line {} column {}", e.line(), e.column()))
        })
    }
}

/// A domain value as the text of a JSON column.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("what the store writes has only string keys")
}

/// A measure as a column: the database's integers are signed, and a value beyond them is as good as the largest.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

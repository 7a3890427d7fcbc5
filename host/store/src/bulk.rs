//! Statements that write several rows at once.
//!
//! A statement costs a hand-over to the connection's thread and back, which is several times the work on one short
//! row. Rows of a group therefore share statements: `INSERT … VALUES (…), (…)`, with one text for each number of rows,
//! so that the connection has each of them prepared.
//!
//! ```ignore
//! static INSERT: Bulk = Bulk::new("INSERT INTO points (x, y) VALUES", 2, "");
//! for chunk in points.chunks(ROWS) {
//!     let mut query = INSERT.query(kind, chunk.len());
//!     for point in chunk {
//!         query = query.bind(point.x).bind(point.y);
//!     }
//!     query.execute(&mut *connection).await?;
//! }
//! ```

use std::sync::{Arc, OnceLock};

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use crate::driver::Kind;

/// A statement with its values.
pub(crate) type Bound = Query<'static, Any, AnyArguments>;

/// Rows of one statement. 16: the hand-over is then a tenth of the work, and all texts of all bulk statements fit into
/// the connection's cache of 100 prepared ones.
pub(crate) const ROWS: usize = 16;

/// A statement with a list of rows in it.
pub(crate) struct Bulk {
    before: &'static str,
    columns: usize,
    after: &'static str,
    /// Of each database, by the number of rows, less one.
    texts: [[OnceLock<Arc<str>>; ROWS]; 2],
}

impl Bulk {
    /// `before` ends in `VALUES`; each row has this many columns; `after` comes behind the last row.
    pub(crate) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, texts: [const { [const { OnceLock::new() }; ROWS] }; 2] }
    }

    /// The statement for so many rows, 1 to [`ROWS`]; bind the columns of one row after the other.
    pub(crate) fn query(&self, kind: Kind, rows: usize) -> Bound {
        let text = self.texts[kind as usize][rows - 1].get_or_init(|| self.text(kind, rows).into());
        // Made of literals and placeholders.
        sqlx::query(AssertSqlSafe(Arc::clone(text)))
    }

    /// This statement and then another, in one hand-over: bind the rows of this one, and then those of the other. Its texts are as
    /// many as there are pairs of numbers of rows, of which the connection should not see more than a few. Not on PostgreSQL, which
    /// takes one statement at a time.
    pub(crate) fn and(&self, rows: usize, other: &Self, rows_of_other: usize) -> Bound {
        let text = [self.text(Kind::Sqlite, rows), other.text(Kind::Sqlite, rows_of_other)].join("; ");
        // Made of literals and placeholders.
        sqlx::query(AssertSqlSafe(text))
    }

    fn text(&self, kind: Kind, rows: usize) -> String {
        let mut text = self.before.to_owned();
        for number in 0..rows * self.columns {
            text += match number {
                0 => " (",
                _ if number % self.columns == 0 => "), (",
                _ => ", ",
            };
            kind.placeholder(&mut text, number + 1);
        }
        text + ") " + self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_columns() {
        let bulk = Bulk::new("INSERT INTO t (a, b) VALUES", 2, "RETURNING a");
        assert_eq!(bulk.text(Kind::Sqlite, 1), "INSERT INTO t (a, b) VALUES (?, ?) RETURNING a");
        assert_eq!(bulk.text(Kind::Sqlite, 3), "INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?) RETURNING a");
        assert_eq!(bulk.text(Kind::Postgres, 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) RETURNING a");
    }
}

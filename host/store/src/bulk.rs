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

/// Rows of one table and then one row of another, in a single hand-over to SQLite; PostgreSQL takes one statement at a time.
pub(crate) struct Pair<const MOST: usize> {
    rows: &'static Bulk,
    then: &'static Bulk,
    /// By the number of rows, less one.
    texts: [OnceLock<Arc<str>>; MOST],
}

impl<const MOST: usize> Pair<MOST> {
    /// Up to `MOST` rows of the first.
    pub(crate) const fn new(rows: &'static Bulk, then: &'static Bulk) -> Self {
        Self { rows, then, texts: [const { OnceLock::new() }; MOST] }
    }

    /// Both statements; bind the columns of one row after the other, and then those of the second one's. `None` if they are not
    /// 1 to `MOST` rows.
    pub(crate) fn query(&'static self, rows: usize) -> Option<Bound> {
        let text = self.texts.get(rows.checked_sub(1)?)?;
        let both = || [self.rows.text(Kind::Sqlite, rows), self.then.text(Kind::Sqlite, 1)].join("; ").into();
        // Made of literals and placeholders.
        Some(sqlx::query(AssertSqlSafe(Arc::clone(text.get_or_init(both)))))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Execute as _;

    use super::*;

    #[test]
    fn each_row_has_its_columns() {
        let bulk = Bulk::new("INSERT INTO t (a, b) VALUES", 2, "RETURNING a");
        assert_eq!(bulk.text(Kind::Sqlite, 1), "INSERT INTO t (a, b) VALUES (?, ?) RETURNING a");
        assert_eq!(bulk.text(Kind::Sqlite, 3), "INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?) RETURNING a");
        assert_eq!(bulk.text(Kind::Postgres, 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) RETURNING a");
    }

    #[test]
    fn a_pair_is_one_text_for_as_many_rows_as_it_takes() {
        static ROWS: Bulk = Bulk::new("INSERT INTO t (a, b) VALUES", 2, "");
        static THEN: Bulk = Bulk::new("INSERT INTO u (c) VALUES", 1, "RETURNING c");
        static PAIR: Pair<2> = Pair::new(&ROWS, &THEN);
        let text = |rows| PAIR.query(rows).map(|query| query.sql().as_str().to_owned());
        assert_eq!(text(0), None);
        let two = "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ; INSERT INTO u (c) VALUES (?) RETURNING c";
        assert_eq!(text(2).as_deref(), Some(two));
        assert_eq!(text(3), None);
    }
}

//! Decimal numbers that are exact or refused.

use clawhold_skill::{Error, data};
use rust_decimal::{Decimal, RoundingStrategy};

/// A decimal number as a string, for example `"19.90"`.
// A JSON number would pass through binary floating point in most programs, where 0.10 does not exist.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Exact(Decimal);

/// Which way a figure goes that lies in the middle.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rounding {
    /// Away from zero, as commerce rounds: 0.125 becomes 0.13.
    HalfUp,
    /// To the even neighbour, as banks round (IEEE 754): 0.125 becomes 0.12.
    HalfEven,
}

impl Exact {
    pub(crate) const ZERO: Self = Self(Decimal::ZERO);
    pub(crate) const ONE: Self = Self(Decimal::ONE);
    pub(crate) const HUNDRED: Self = Self(Decimal::ONE_HUNDRED);

    pub(crate) fn plus(self, other: Self) -> Result<Self, Error> {
        if self.0.is_zero() || other.0.is_zero() {
            return Ok(if self.0.is_zero() { other } else { self });
        }
        // The library gives up decimal places, and not the sum, when the digits do not suffice.
        let sum = self.0.checked_add(other.0).filter(|sum| sum.scale() == self.0.scale().max(other.0.scale()));
        sum.map(Self).ok_or_else(too_large)
    }

    pub(crate) fn minus(self, other: Self) -> Result<Self, Error> {
        self.plus(Self(-other.0))
    }

    pub(crate) fn times(self, other: Self) -> Result<Self, Error> {
        if self.0.is_zero() || other.0.is_zero() {
            return Ok(Self::ZERO);
        }
        let (left, right) = (self.0.normalize(), other.0.normalize());
        let product = left.checked_mul(right).filter(|product| product.scale() == left.scale() + right.scale());
        product.map(Self).ok_or_else(too_large)
    }

    /// This many per cent of `of`.
    pub(crate) fn percent_of(self, of: Self) -> Result<Self, Error> {
        self.times(Self(Decimal::new(1, 2)))?.times(of)
    }

    /// An amount of money with exactly `places` decimal places.
    pub(crate) fn rounded(self, places: u32, rounding: Rounding) -> Result<Self, Error> {
        let strategy = match rounding {
            Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            Rounding::HalfEven => RoundingStrategy::MidpointNearestEven,
        };
        let mut amount = self.0.round_dp_with_strategy(places, strategy);
        amount.rescale(places);
        if amount.scale() == places { Ok(Self(amount)) } else { Err(too_large()) }
    }

    /// Without zeros at the end, for figures that are not rounded.
    pub(crate) fn shortest(self) -> Self {
        Self(self.0.normalize())
    }
}

impl From<i64> for Exact {
    fn from(number: i64) -> Self {
        Self(number.into())
    }
}

impl TryFrom<String> for Exact {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Decimal::from_str_exact(&text)
            .map(Self)
            .map_err(|error| format!("`{text}` is not a decimal number such as \"19.90\": {error}"))
    }
}

impl From<Exact> for String {
    fn from(number: Exact) -> Self {
        number.0.to_string()
    }
}

fn too_large() -> Error {
    Error::invalid_input("the order is too large to be priced exactly: split it")
}

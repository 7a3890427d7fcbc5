//! What is asked and what is answered.

use clawhold_skill::data;

use crate::exact::Exact;

/// An order.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// Where it goes, as the tenant's tax rates name it, for example `DE`.
    pub(crate) region: String,
    /// What is ordered: each article once.
    pub(crate) lines: Vec<OrderLine>,
}

/// One line of an order.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderLine {
    /// The article's number.
    pub(crate) sku: String,
    /// How many pieces: 1 or more.
    #[schemars(range(min = 1))]
    pub(crate) quantity: i64,
}

/// A priced order. Amounts are decimal strings in the currency's unit; gross is net and tax together.
#[data]
#[derive(Debug)]
pub(crate) struct Quote {
    /// ISO 4217 code.
    pub(crate) currency: String,
    /// The lines, in the order's order.
    pub(crate) lines: Vec<QuoteLine>,
    /// The tax by rate, lowest first.
    pub(crate) taxes: Vec<TaxLine>,
    /// Without tax.
    pub(crate) net: Exact,
    /// The tax.
    pub(crate) tax: Exact,
    /// With tax.
    pub(crate) gross: Exact,
}

/// One priced line.
#[data]
#[derive(Debug)]
pub(crate) struct QuoteLine {
    /// The article's number.
    pub(crate) sku: String,
    /// How many pieces.
    pub(crate) quantity: i64,
    /// For one piece, without tax, after the volume discount; not rounded.
    pub(crate) unit_price: Exact,
    /// Without tax.
    pub(crate) net: Exact,
    /// The tax rate in per cent.
    pub(crate) tax_percent: Exact,
}

/// The tax at one rate.
#[data]
#[derive(Debug)]
pub(crate) struct TaxLine {
    /// The rate in per cent.
    pub(crate) percent: Exact,
    /// The amount that is taxed.
    pub(crate) net: Exact,
    /// The tax.
    pub(crate) tax: Exact,
}

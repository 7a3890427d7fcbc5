//! What the tenant's admin sets at install: prices, tiers, taxes and rounding.

use std::collections::BTreeSet;

use clawhold_skill::{Error, data};

use crate::exact::{Exact, Rounding};

/// No currency of ISO 4217 has more decimal places than four.
const MOST_PLACES: u32 = 4;

/// The install's settings.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// ISO 4217 code, for example `EUR`.
    pub(crate) currency: String,
    /// Decimal places of the currency: 2 when left out, 0 for yen.
    #[serde(default = "two")]
    pub(crate) places: u32,
    /// Which way the middle is rounded: `half-up` or `half-even`.
    pub(crate) rounding: Rounding,
    /// What is rounded: each `line`, or the `total` only.
    pub(crate) round_per: RoundPer,
    /// The price list.
    pub(crate) prices: Vec<Article>,
    /// Tax rates by region and category.
    pub(crate) taxes: Vec<Tax>,
}

/// What is rounded.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoundPer {
    /// Net and tax of each line; the totals are their sums.
    Line,
    /// Net, and tax by rate, of the whole order; the lines show exact amounts.
    Total,
}

/// One article of the price list.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct Article {
    /// The article's number.
    pub(crate) sku: String,
    /// For one piece, without tax.
    pub(crate) price: Exact,
    /// The tax category, for example `standard`.
    pub(crate) category: String,
    /// What larger quantities cost.
    #[serde(default)]
    pub(crate) tiers: Vec<Tier>,
}

/// From a quantity on, another price or a discount: one of the two.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct Tier {
    /// The smallest quantity that the tier is for.
    pub(crate) from: i64,
    /// Another price for one piece, and for all pieces of the line.
    pub(crate) price: Option<Exact>,
    /// Per cent off the article's price.
    pub(crate) discount_percent: Option<Exact>,
}

/// One tax rate.
#[data]
#[serde(deny_unknown_fields)]
pub(crate) struct Tax {
    /// The region, for example `DE`.
    pub(crate) region: String,
    /// The tax category.
    pub(crate) category: String,
    /// Per cent of the net amount.
    pub(crate) percent: Exact,
}

impl Settings {
    /// Refuses settings that read well and make no sense. They are the admin's to mend, hence `failed`.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.places > MOST_PLACES {
            return Err(wrong(format!("`places` is {}, and no currency has more than {MOST_PLACES}", self.places)));
        }
        let mut skus = BTreeSet::new();
        for article in &self.prices {
            if !skus.insert(&article.sku) {
                return Err(wrong(format!("the price of `{}` stands there twice", article.sku)));
            }
            article.check().map_err(|problem| wrong(format!("`{}`: {problem}", article.sku)))?;
        }
        let mut rates = BTreeSet::new();
        for Tax { region, category, percent } in &self.taxes {
            if !rates.insert((region, category)) {
                return Err(wrong(format!("the tax of `{category}` in `{region}` stands there twice")));
            }
            if *percent < Exact::ZERO {
                return Err(wrong(format!("the tax of `{category}` in `{region}` is negative")));
            }
        }
        Ok(())
    }
}

impl Article {
    fn check(&self) -> Result<(), &'static str> {
        if self.price < Exact::ZERO {
            return Err("the price is negative");
        }
        let mut borders = BTreeSet::new();
        for tier in &self.tiers {
            if tier.from < 1 || !borders.insert(tier.from) {
                return Err("each tier needs a `from` of its own, 1 or more");
            }
            match (tier.price, tier.discount_percent) {
                (Some(price), None) if price >= Exact::ZERO => {}
                (None, Some(percent)) if (Exact::ZERO..=Exact::HUNDRED).contains(&percent) => {}
                _ => return Err("each tier needs a `price`, or a `discount_percent` from 0 to 100, and not both"),
            }
        }
        Ok(())
    }

    /// The tier with the highest border that `quantity` reaches.
    pub(crate) fn tier(&self, quantity: i64) -> Option<&Tier> {
        self.tiers.iter().filter(|tier| tier.from <= quantity).max_by_key(|tier| tier.from)
    }
}

fn two() -> u32 {
    2
}

fn wrong(problem: String) -> Error {
    Error::failed(format!(
        "the settings of this install make no sense, and its tenant's admin can mend them: {problem}"
    ))
}

//! Prices orders from the tenant's price list, exact to the cent.
//!
//! Prices, volume tiers, tax rates and rounding come from the install's settings; an order names articles and
//! quantities. A sum that cannot be held exactly is refused: no figure here was rounded but the ones that say so.

mod exact;
mod order;
mod pricing;
mod settings;

use clawhold_skill::{Context, Error, skill};

use crate::order::{Order, Quote};
use crate::settings::Settings;

/// Prices an order: net, tax and gross amounts by line and in total, as decimal strings.
///
/// Uses the tenant's own price list, volume discounts and tax rates. It stores nothing and reserves nothing.
#[skill(name = "quote.price")]
fn price(
    cx: &Context,
    /// What is ordered, and to which region.
    order: Order,
) -> Result<Quote, Error> {
    let settings: Settings = cx.settings()?;
    settings.check()?;
    pricing::price(&settings, &order)
}

#[cfg(test)]
mod tests;

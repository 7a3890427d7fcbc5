//! From an order and a price list to a quote.

use std::collections::{BTreeMap, BTreeSet};

use clawhold_skill::Error;

use crate::exact::Exact;
use crate::order::{Order, OrderLine, Quote, QuoteLine, TaxLine};
use crate::settings::{Article, RoundPer, Settings};

pub(crate) fn price(settings: &Settings, order: &Order) -> Result<Quote, Error> {
    let articles: BTreeMap<&str, &Article> =
        settings.prices.iter().map(|article| (article.sku.as_str(), article)).collect();
    let rates: BTreeMap<(&str, &str), Exact> =
        settings.taxes.iter().map(|tax| ((tax.region.as_str(), tax.category.as_str()), tax.percent)).collect();
    check(order)?;

    let mut lines = Vec::with_capacity(order.lines.len());
    let mut taxes = BTreeMap::new();
    let mut net = Exact::ZERO;
    for OrderLine { sku, quantity } in &order.lines {
        let article = articles
            .get(sku.as_str())
            .ok_or_else(|| Error::invalid_input(format!("the price list has no article `{sku}`")))?;
        let tax_percent = *rates.get(&(order.region.as_str(), article.category.as_str())).ok_or_else(|| {
            Error::invalid_input(format!(
                "there is no tax rate for `{}` in the region `{}`",
                article.category, order.region
            ))
        })?;
        let unit_price = unit_price(article, *quantity)?;
        let mut line_net = unit_price.times((*quantity).into())?;
        let mut line_tax = tax_percent.percent_of(line_net)?;
        if settings.round_per == RoundPer::Line {
            line_net = line_net.rounded(settings.places, settings.rounding)?;
            line_tax = tax_percent.percent_of(line_net)?.rounded(settings.places, settings.rounding)?;
        }
        net = net.plus(line_net)?;
        let (taxed, tax) = taxes.entry(tax_percent).or_insert((Exact::ZERO, Exact::ZERO));
        *taxed = taxed.plus(line_net)?;
        *tax = tax.plus(line_tax)?;
        if settings.round_per == RoundPer::Total {
            line_net = line_net.shortest();
        }
        let unit_price = unit_price.shortest();
        lines.push(QuoteLine { sku: sku.clone(), quantity: *quantity, unit_price, net: line_net, tax_percent });
    }
    total(settings, lines, taxes, net)
}

/// Rounds what is not rounded yet. Gross is the sum of what is shown, so that the quote adds up on paper.
fn total(
    settings: &Settings,
    lines: Vec<QuoteLine>,
    taxes: BTreeMap<Exact, (Exact, Exact)>,
    net: Exact,
) -> Result<Quote, Error> {
    let money = |amount: Exact| amount.rounded(settings.places, settings.rounding);
    let taxes = taxes
        .into_iter()
        .map(|(percent, (net, tax))| Ok(TaxLine { percent, net: money(net)?, tax: money(tax)? }))
        .collect::<Result<Vec<_>, Error>>()?;
    let net = money(net)?;
    let tax = money(taxes.iter().try_fold(Exact::ZERO, |sum, line| sum.plus(line.tax))?)?;
    let gross = money(net.plus(tax)?)?;
    Ok(Quote { currency: settings.currency.clone(), lines, taxes, net, tax, gross })
}

fn check(order: &Order) -> Result<(), Error> {
    if order.lines.is_empty() {
        return Err(Error::invalid_input("the order has no lines"));
    }
    let mut skus = BTreeSet::new();
    for OrderLine { sku, quantity } in &order.lines {
        if *quantity < 1 {
            return Err(Error::invalid_input(format!(
                "the quantity of `{sku}` must be 1 or more, and {quantity} is not"
            )));
        }
        // Two lines of one article would leave open which tier it reaches.
        if !skus.insert(sku) {
            return Err(Error::invalid_input(format!("`{sku}` stands on two lines: add the quantities")));
        }
    }
    Ok(())
}

fn unit_price(article: &Article, quantity: i64) -> Result<Exact, Error> {
    let Some(tier) = article.tier(quantity) else { return Ok(article.price) };
    match (tier.price, tier.discount_percent) {
        (Some(price), _) => Ok(price),
        (None, Some(percent)) => article.price.times(Exact::ONE.minus(percent.percent_of(Exact::ONE)?)?),
        (None, None) => Ok(article.price),
    }
}

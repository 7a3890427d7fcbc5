use clawhold_skill::serde_json::{Value, json};
use clawhold_skill::testing::Host;

/// Settings with one tax region and these prices: article, price, tiers.
fn settings(rounding: &str, round_per: &str, prices: &[(&str, &str, Value)]) -> Value {
    let prices: Vec<Value> = prices
        .iter()
        .map(|(sku, price, tiers)| json!({"sku": sku, "price": price, "category": "standard", "tiers": tiers}))
        .collect();
    json!({
        "currency": "EUR", "rounding": rounding, "round_per": round_per, "prices": prices,
        "taxes": [
            {"region": "DE", "category": "standard", "percent": "19"},
            {"region": "CH", "category": "standard", "percent": "8.1"},
            {"region": "US-OR", "category": "standard", "percent": "0"},
        ],
    })
}

fn order(region: &str, lines: &[(&str, i64)]) -> Value {
    let lines: Vec<Value> = lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
    json!({"order": {"region": region, "lines": lines}})
}

fn quote(settings: Value, order: Value) -> Value {
    Host::new().settings(settings).call("quote.price", order).unwrap()
}

#[track_caller]
fn check(settings: Value, order: Value, net: &str, tax: &str, gross: &str) {
    let quote = quote(settings, order);
    assert_eq!((&quote["net"], &quote["tax"], &quote["gross"]), (&json!(net), &json!(tax), &json!(gross)), "{quote:#}");
}

#[test]
fn a_tenth_and_two_tenths_are_three_tenths() {
    let settings = settings("half-up", "line", &[("A", "0.1", json!([])), ("B", "0.2", json!([]))]);
    check(settings, order("US-OR", &[("A", 1), ("B", 1)]), "0.30", "0.00", "0.30");
}

#[test]
fn the_middle_is_rounded_as_the_tenant_says() {
    for (price, half_up, half_even) in [
        ("0.125", "0.13", "0.12"),
        ("0.135", "0.14", "0.14"),
        ("2.675", "2.68", "2.68"),
        ("1.005", "1.01", "1.00"),
        ("0.005", "0.01", "0.00"),
        ("0.015", "0.02", "0.02"),
        ("0.1250001", "0.13", "0.13"),
        ("0.1249999", "0.12", "0.12"),
    ] {
        for (rounding, rounded) in [("half-up", half_up), ("half-even", half_even)] {
            for round_per in ["line", "total"] {
                let settings = settings(rounding, round_per, &[("A", price, json!([]))]);
                check(settings, order("US-OR", &[("A", 1)]), rounded, "0.00", rounded);
            }
        }
    }
}

#[test]
fn rounding_lines_and_rounding_the_total_differ() {
    let prices = [("A", "0.335", json!([])), ("B", "0.335", json!([])), ("C", "0.335", json!([]))];
    let lines = order("DE", &[("A", 1), ("B", 1), ("C", 1)]);
    // By line 0.34 and 0.06 three times; in total 1.005, and 19 % of it 0.19095.
    check(settings("half-up", "line", &prices), lines.clone(), "1.02", "0.18", "1.20");
    check(settings("half-up", "total", &prices), lines.clone(), "1.01", "0.19", "1.20");
    check(settings("half-even", "total", &prices), lines, "1.00", "0.19", "1.19");
}

#[test]
fn a_tier_begins_at_its_border() {
    let tiers = json!([{"from": 100, "price": "8.00"}, {"from": 10, "discount_percent": "12.5"}]);
    let settings = settings("half-up", "line", &[("A", "10.00", tiers)]);
    for (quantity, net) in [(1, "10.00"), (9, "90.00"), (10, "87.50"), (99, "866.25"), (100, "800.00"), (101, "808.00")]
    {
        check(settings.clone(), order("US-OR", &[("A", quantity)]), net, "0.00", net);
    }
}

#[test]
fn taxes_are_told_by_rate() {
    let mut settings = settings("half-up", "line", &[("A", "100", json!([]))]);
    settings["prices"].as_array_mut().unwrap().push(json!({"sku": "BOOK", "price": "9.99", "category": "books"}));
    settings["taxes"].as_array_mut().unwrap().push(json!({"region": "DE", "category": "books", "percent": "7"}));
    let quote = quote(settings, order("DE", &[("A", 1), ("BOOK", 3)]));
    assert_eq!(
        quote,
        json!({
            "currency": "EUR",
            "lines": [
                {"sku": "A", "quantity": 1, "unit_price": "100", "net": "100.00", "tax_percent": "19"},
                {"sku": "BOOK", "quantity": 3, "unit_price": "9.99", "net": "29.97", "tax_percent": "7"},
            ],
            "taxes": [
                {"percent": "7", "net": "29.97", "tax": "2.10"},
                {"percent": "19", "net": "100.00", "tax": "19.00"},
            ],
            "net": "129.97", "tax": "21.10", "gross": "151.07",
        })
    );
}

#[test]
fn a_currency_may_have_no_cents() {
    let mut settings = settings("half-up", "line", &[("A", "99.5", json!([]))]);
    settings["places"] = json!(0);
    check(settings, order("CH", &[("A", 1)]), "100", "8", "108");
}

#[test]
fn huge_orders_are_exact_or_refused() {
    let prices =
        [("CENT", "0.01", json!([])), ("DEAR", "79228162514264337593543950335", json!([])), ("FREE", "0", json!([]))];
    for round_per in ["line", "total"] {
        let settings = settings("half-even", round_per, &prices);
        let most = i64::MAX;
        check(
            settings.clone(),
            order("US-OR", &[("CENT", most)]),
            "92233720368547758.07",
            "0.00",
            "92233720368547758.07",
        );
        check(settings.clone(), order("DE", &[("FREE", most)]), "0.00", "0.00", "0.00");
        for lines in [&[("DEAR", 1)][..], &[("DEAR", most)], &[("CENT", most), ("DEAR", 1)]] {
            let error = Host::new().settings(settings.clone()).call("quote.price", order("DE", lines)).unwrap_err();
            assert_eq!(error.kind(), "invalid-input");
            assert!(error.message().contains("too large"), "{error}");
        }
    }
}

#[test]
fn a_wrong_order_is_the_callers_to_mend() {
    let settings = settings("half-up", "line", &[("A", "1", json!([]))]);
    let number_beyond =
        json!({"order": {"region": "DE", "lines": [{"sku": "A", "quantity": 9_223_372_036_854_775_808_u64}]}});
    let fraction = json!({"order": {"region": "DE", "lines": [{"sku": "A", "quantity": 1.5}]}});
    for (order, says) in [
        (order("DE", &[]), "no lines"),
        (order("DE", &[("A", 0)]), "must be 1 or more"),
        (order("DE", &[("A", -1)]), "must be 1 or more"),
        (order("DE", &[("A", i64::MIN)]), "must be 1 or more"),
        (order("DE", &[("A", 1), ("A", 2)]), "two lines"),
        (order("DE", &[("Z", 1)]), "no article `Z`"),
        (order("FR", &[("A", 1)]), "no tax rate for `standard` in the region `FR`"),
        (number_beyond, "`order`"),
        (fraction, "`order`"),
        (json!({"order": {"region": "DE", "lines": [], "coupon": "x"}}), "`coupon`"),
        (json!({}), "`order` is missing"),
    ] {
        let error = Host::new().settings(settings.clone()).call("quote.price", order).unwrap_err();
        assert_eq!(error.kind(), "invalid-input", "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn wrong_settings_are_the_admins_to_mend() {
    let good = settings("half-up", "line", &[("A", "1", json!([]))]);
    for (pointer, value, says) in [
        ("/prices/0/price", json!("-1"), "negative"),
        ("/prices/0/price", json!(0.1), "expected a string"),
        ("/prices/0/price", json!("1e3"), "not a decimal"),
        ("/prices/0/price", json!("0.12345678901234567890123456789012"), "not a decimal"),
        ("/prices/0/tiers", json!([{"from": 0, "price": "1"}]), "`from`"),
        ("/prices/0/tiers", json!([{"from": 2, "price": "1"}, {"from": 2, "price": "1"}]), "`from`"),
        ("/prices/0/tiers", json!([{"from": 2}]), "not both"),
        ("/prices/0/tiers", json!([{"from": 2, "discount_percent": "100.1"}]), "0 to 100"),
        ("/taxes/0/percent", json!("-19"), "negative"),
        ("/taxes/1/region", json!("DE"), "twice"),
        ("/rounding", json!("down"), "half-up"),
    ] {
        let mut settings = good.clone();
        *settings.pointer_mut(pointer).unwrap() = value;
        let error = Host::new().settings(settings).call("quote.price", order("DE", &[("A", 1)])).unwrap_err();
        assert_eq!(error.kind(), "failed", "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

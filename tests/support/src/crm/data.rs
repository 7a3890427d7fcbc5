//! What a customer of the CRM has in it.

use serde_json::{Value, json};

use super::select::{ACCOUNT, CASE, Table};

/// The customers whose data is at hand.
pub const SAMPLES: [&str; 2] = ["acme-corp", "globex"];

/// One customer of the CRM: its token and its data.
#[derive(Clone)]
pub struct Customer {
    name: String,
    token: String,
    tables: [Table; 2],
}

impl Customer {
    /// A customer without data.
    pub fn new(name: impl Into<String>, token: impl Into<String>) -> Self {
        let tables = [Table { object: &ACCOUNT, rows: Vec::new() }, Table { object: &CASE, rows: Vec::new() }];
        Self { name: name.into(), token: token.into(), tables }
    }

    /// One of [`SAMPLES`] with its data. Both have an `O'Brien & Sons`, and these are two accounts.
    pub fn sample(name: &str, token: &str) -> Option<Self> {
        let customer = Self::new(name, token);
        match name {
            "acme-corp" => Some(acme(customer)),
            "globex" => Some(globex(customer)),
            _ => None,
        }
    }

    /// Adds an account: an object with some of the fields that queries can name. What is left out is null.
    #[must_use]
    pub fn account(mut self, row: Value) -> Self {
        self.tables[0].rows.push(row);
        self
    }

    /// Adds a case: an object with some of the fields that queries can name. What is left out is null.
    #[must_use]
    pub fn case(mut self, row: Value) -> Self {
        self.tables[1].rows.push(row);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }
}

/// Without the token, which tests print.
impl std::fmt::Debug for Customer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Customer").field("name", &self.name).finish_non_exhaustive()
    }
}

fn acme(customer: Customer) -> Customer {
    const OBRIEN: &str = "001A0000001AcmeQA2";
    const HARBOUR: &str = "001A0000002AcmeQA2";
    customer
        .account(json!({
            "Id": OBRIEN, "Name": "O'Brien & Sons", "Industry": "Shipping", "Website": "https://obrien.example",
            "Phone": "+353 1 555 0100",
        }))
        .account(json!({
            "Id": HARBOUR, "Name": "Harbour Lights", "Industry": "Hospitality",
            "Website": "https://harbour-lights.example",
        }))
        .account(json!({"Id": "001A0000003AcmeQA2", "Name": "Meridian Tools", "Industry": "Manufacturing"}))
        .case(json!({
            "Id": "500A0000001AcmeQA2", "CaseNumber": "00001001", "Subject": "Crane 4 reports no position",
            "Status": "Escalated", "Priority": "High", "CreatedDate": "2026-01-12T08:15:00.000+0000",
            "AccountId": OBRIEN, "IsClosed": false,
        }))
        .case(json!({
            "Id": "500A0000002AcmeQA2", "CaseNumber": "00001002", "Subject": "Invoice in the wrong currency",
            "Status": "New", "Priority": "Medium", "CreatedDate": "2026-02-03T14:40:00.000+0000",
            "AccountId": OBRIEN, "IsClosed": false,
        }))
        .case(json!({
            "Id": "500A0000003AcmeQA2", "CaseNumber": "00000977", "Subject": "Forgotten password",
            "Status": "Closed", "Priority": "Low", "CreatedDate": "2025-11-20T10:00:00.000+0000",
            "AccountId": OBRIEN, "IsClosed": true,
        }))
        .case(json!({
            "Id": "500A0000004AcmeQA2", "CaseNumber": "00001003", "Subject": "Booking page is slow",
            "Status": "Working", "Priority": "Low", "CreatedDate": "2026-01-30T09:05:00.000+0000",
            "AccountId": HARBOUR, "IsClosed": false,
        }))
}

fn globex(customer: Customer) -> Customer {
    const OBRIEN: &str = "001G0000001GlbxQA2";
    customer
        .account(json!({
            "Id": OBRIEN, "Name": "O'Brien & Sons", "Industry": "Catering", "Website": "https://obrien-foods.example",
            "Phone": "+44 20 5550 0199",
        }))
        .account(json!({"Id": "001G0000002GlbxQA2", "Name": "Polar Optics", "Industry": "Instruments"}))
        .case(json!({
            "Id": "500G0000001GlbxQA2", "CaseNumber": "00000042", "Subject": "Delivery came without the menu cards",
            "Status": "New", "Priority": "Medium", "CreatedDate": "2026-02-10T07:30:00.000+0000",
            "AccountId": OBRIEN, "IsClosed": false,
        }))
}

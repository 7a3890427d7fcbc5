//! Looks up accounts and open cases in a Salesforce-style CRM.
//!
//! The tenant's admin sets `instance_url` at install and stores a token as the secret `salesforce`; this package puts
//! the token on its requests and never sees it.

mod query;
mod soql;

use clawhold_skill::{Context, Error, audit, data, serde_json::json, skill};

use crate::soql::{Id, literal};

/// How many cases are listed when the caller does not say.
const DEFAULT_CASES: u32 = 20;
/// How many cases may be asked for: what a person or a model can take in, and far below the API's 2,000 rows a page.
const MOST_CASES: u32 = 200;

/// A customer's account.
#[data]
#[derive(Debug, PartialEq)]
#[serde(rename_all(serialize = "snake_case", deserialize = "PascalCase"))]
struct Account {
    /// The CRM's id of the account, to ask for its cases.
    id: String,
    /// The account's name as the CRM has it.
    name: String,
    /// The line of business.
    industry: Option<String>,
    /// The account's web site.
    website: Option<String>,
    /// The main telephone number.
    phone: Option<String>,
}

/// A customer's request for help.
#[data]
#[derive(Debug, PartialEq)]
#[serde(rename_all(serialize = "snake_case", deserialize = "PascalCase"))]
struct Case {
    /// The CRM's id of the case.
    id: String,
    /// The number that people call the case by.
    #[serde(rename(deserialize = "CaseNumber"))]
    number: String,
    /// What it is about, in a line.
    subject: Option<String>,
    /// For example `New` or `Escalated`.
    status: String,
    /// For example `High`.
    priority: Option<String>,
    /// When it was opened, ISO 8601.
    created_date: String,
}

/// Finds a customer's account in the CRM by its exact name.
///
/// Gives `null` when there is none. The account's `id` is what other skills ask for.
#[skill(name = "crm.lookup_account")]
fn lookup_account(
    cx: &Context,
    /// The account's full name, in any case.
    name: String,
) -> Result<Option<Account>, Error> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input("`name` is empty: give the account's full name"));
    }
    let soql =
        format!("SELECT Id, Name, Industry, Website, Phone FROM Account WHERE Name = {} LIMIT 1", literal(&name));
    let account: Option<Account> = query::records(cx, &soql)?.into_iter().next();
    if let Some(account) = &account {
        // By id: a name in the audit log would be personal data that outlives the account.
        audit::success("crm.account.read", &account.id)?;
    }
    Ok(account)
}

/// Lists the open cases of an account, the latest first.
#[skill(name = "crm.open_cases")]
fn open_cases(
    cx: &Context,
    /// The account's CRM id, as `crm.lookup_account` gives it: 15 or 18 letters and digits.
    account_id: String,
    /// How many cases to list: 1 to 200, and 20 when nothing is said.
    limit: Option<u32>,
) -> Result<Vec<Case>, Error> {
    let account = Id::parse(&account_id)?;
    let limit = limit.unwrap_or(DEFAULT_CASES);
    if !(1..=MOST_CASES).contains(&limit) {
        return Err(Error::invalid_input(format!("`limit` must be 1 to {MOST_CASES}, and {limit} is not")));
    }
    let soql = format!(
        "SELECT Id, CaseNumber, Subject, Status, Priority, CreatedDate FROM Case \
         WHERE AccountId = {account} AND IsClosed = false ORDER BY CreatedDate DESC LIMIT {limit}"
    );
    let cases: Vec<Case> = query::records(cx, &soql)?;
    audit::record("crm.case.list", account.as_str(), audit::Outcome::Success, &json!({"cases": cases.len()}))?;
    Ok(cases)
}

#[cfg(test)]
mod tests;

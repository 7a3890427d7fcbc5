//! The CRM's query API.

use clawhold_skill::http::{self, Response};
use clawhold_skill::serde::de::DeserializeOwned;
use clawhold_skill::{Context, Error, data, log, secret};

/// Which version of the API the answers below are from.
const QUERY_PATH: &str = "/services/data/v59.0/query";

/// What the tenant's admin sets at install.
#[data]
struct Settings {
    /// The CRM's address, for example `https://northwind.my.salesforce.com`.
    instance_url: String,
}

/// A page of the answer. The queries here ask for no more rows than fit on the first.
#[data]
struct Page<T> {
    records: Vec<T>,
}

/// What the CRM says instead of a page: a list of these.
#[data]
struct Problem {
    message: String,
    #[serde(rename = "errorCode")]
    code: String,
}

/// Runs a query and reads its records.
pub(crate) fn records<T: DeserializeOwned>(cx: &Context, soql: &str) -> Result<Vec<T>, Error> {
    let Settings { instance_url } = cx.settings()?;
    let url = format!("{}{QUERY_PATH}", instance_url.trim_end_matches('/'));
    let response = http::get(url).query("q", soql).bearer(&secret("salesforce")?).send()?;
    match response.status() {
        200 => Ok(response.json::<Page<T>>()?.records),
        status => Err(refused(status, &response)),
    }
}

fn refused(status: u16, response: &Response) -> Error {
    let problem = response.json::<Vec<Problem>>().ok().and_then(|problems| problems.into_iter().next());
    let code = problem.as_ref().map_or("", |problem| problem.code.as_str());
    // The CRM's own text may quote the query, and with it a customer's name: it is for developers only.
    if let Some(Problem { message, code }) = &problem {
        log::warn!("the CRM answered {status} {code}: {message}");
    }
    match (status, code) {
        // The API's daily limit comes as 403, and is over tomorrow.
        (_, "REQUEST_LIMIT_EXCEEDED") => {
            Error::unavailable("the CRM's request limit is used up: try again later, or raise the limit in the CRM")
        }
        (401, _) => Error::denied(
            "the CRM did not accept the token: the tenant's admin must store a valid one as the secret `salesforce`",
        ),
        (403, _) => Error::denied(
            "the CRM's user may not read this: its admin must give it the API and read rights for accounts and cases",
        ),
        (429 | 500..=599, _) => Error::unavailable(format!("the CRM answered {status}: try again later")),
        (300..=399, _) => Error::failed(format!(
            "the CRM answered {status}, which sends us elsewhere: `instance_url` in the settings must be its own address"
        )),
        (_, "") => Error::failed(format!("the CRM answered {status}")),
        _ => Error::failed(format!("the CRM answered {status} {code}")),
    }
}

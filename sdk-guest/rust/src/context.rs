//! Who a run is for.

use serde::de::DeserializeOwned;

use crate::Error;

/// Who a run is for, when it began and when it must end. The host fills it in.
///
/// A skill never needs to pass the tenant on to a secret, a request or an audit entry: the host judges those by its
/// own copy, which a skill cannot change.
///
/// ```
/// use clawhold_skill::{Context, Error, data, skill};
///
/// #[data]
/// struct Settings {
///     greeting: String,
/// }
///
/// /// Greets somebody the way the tenant likes it.
/// #[skill]
/// fn greet(cx: &Context, name: String) -> Result<String, Error> {
///     let Settings { greeting } = cx.settings()?;
///     Ok(format!("{greeting}, {name}!"))
/// }
/// # use clawhold_skill::testing::Host;
/// # use serde_json::json;
/// # let host = Host::new().settings(json!({"greeting": "Moin"}));
/// # assert_eq!(host.run(|cx| greet(cx, "Ada".into())).unwrap(), "Moin, Ada!");
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) tenant_id: String,
    pub(crate) run_id: String,
    pub(crate) trace_id: String,
    pub(crate) caller: String,
    pub(crate) skill: String,
    pub(crate) now_ms: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) settings: String,
}

impl Context {
    /// The tenant, for example `acme-corp`.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// This run, a UUIDv7. The audit log and the caller's answer carry the same id.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The W3C trace id of the call: 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// Who called, for example `token:ci`. Never a credential.
    pub fn caller(&self) -> &str {
        &self.caller
    }

    /// The skill that is called, for example `crm.lookup_account`.
    pub fn skill(&self) -> &str {
        &self.skill
    }

    /// When the run began, in milliseconds since 1970-01-01T00:00:00Z. It does not move while the run lasts.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// When the host will stop the run, on the same scale as [`now_ms`](Self::now_ms).
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// What the tenant's admin set for this install, read as `T`.
    ///
    /// Settings that do not fit give [`Error::Failed`] with the reason: it is the install that needs mending, and the
    /// caller cannot do it.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        // An install that was never configured reads as one whose every setting is absent.
        let settings = if self.settings.is_empty() { "{}" } else { &self.settings };
        serde_json::from_str(settings).map_err(|error| {
            Error::failed(format!(
                "the settings of this install do not fit, and its tenant's admin can mend them: {error}"
            ))
        })
    }
}

//! What an install would allow, before anybody says yes.

use std::collections::BTreeSet;

use clawhold_tenancy::limits::Asked;
use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::policy::{HostPattern, Policy, SettingProblem};
use clawhold_tenancy::secret_kind::SecretKind;
use clawhold_tenancy::{Digest, RunLimits, SecretName, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::{Diff, diff};

/// A secret that a package asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPlan {
    /// Its name.
    pub name: SecretName,
    /// What for, in the author's words.
    pub purpose: String,
    /// Whether the package asks to read the value. It stays unread unless the admin names the secret.
    pub reveal: bool,
    /// What the host makes of it.
    pub kind: SecretKind,
}

/// What an admin is asked to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Secrets with their purpose.
    pub secrets: Vec<SecretPlan>,
    /// All that the install would be allowed, with `reveal` as the admin set it.
    pub policy: Policy,
    /// The word that says yes to exactly this.
    pub consent: Digest,
    /// What the install is not allowed yet and would be, in words; everything, for a new install.
    pub adds: Vec<String>,
    /// What it is allowed now and would not be any more.
    pub removes: Vec<String>,
}

/// What an admin allows less of than a package asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Narrowing {
    /// Hosts, as the manifest writes them, that the package asks for and does not get.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub without_hosts: BTreeSet<String>,
    /// Limits of a run, lower than those that it asks for.
    pub limits: Asked,
}

/// Why there is no plan, with the place of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingProblem),
    /// A host that is to be left out.
    #[error("the package asks for no host {host}; it asks for {asks}")]
    Host {
        /// The host.
        host: String,
        /// What there is to leave out.
        asks: String,
    },
}

impl Narrowing {
    /// What was left out before may be left out again, though a newer version asks for it no more.
    fn narrow(&self, policy: &mut Policy, before: Option<&Self>) -> Result<(), PlanError> {
        let asks: BTreeSet<String> = policy.http.iter().map(|rule| rule.host.to_string()).collect();
        let is_known =
            |host: &String| asks.contains(host) || before.is_some_and(|before| before.without_hosts.contains(host));
        if let Some(host) = self.without_hosts.iter().find(|host| !is_known(host)) {
            let asks = if asks.is_empty() { "none".to_owned() } else { Vec::from_iter(asks).join(", ") };
            return Err(PlanError::Host { host: host.clone(), asks });
        }
        self.cut(policy);
        Ok(())
    }

    fn cut(&self, policy: &mut Policy) {
        policy.http.retain(|rule| !self.without_hosts.contains(&rule.host.to_string()));
        policy.limits = policy.limits.within(&self.limits.cap());
    }
}

/// What a version may do that is put back: what was agreed to for it, with what it got less of `then`, and without what has been left out
/// since, in whatever way that version writes a host. It is no more than `agreed`, so nobody need be asked. Also gives what it gets less
/// of by that.
pub fn put_back(agreed: &Policy, then: &Narrowing, now: &Narrowing) -> (Policy, Narrowing) {
    let since = now.without_hosts.difference(&then.without_hosts);
    let left_out: Vec<HostPattern> = since.filter_map(|host| host.parse().ok()).collect();
    let met = agreed.http.iter().filter(|rule| left_out.iter().any(|host| host.meets(&rule.host)));
    let mut without_hosts: BTreeSet<String> = met.map(|rule| rule.host.to_string()).collect();
    without_hosts.extend(then.without_hosts.iter().chain(&now.without_hosts).cloned());
    let less = Narrowing { without_hosts, limits: then.limits.lower(&now.limits) };
    let mut policy = agreed.clone();
    less.cut(&mut policy);
    (policy, less)
}

/// The word that says yes to this. The code and the settings are part of what is accepted, and so is who accepts it: the same rights for
/// another component, another price list or another tenant are another question.
pub fn consent(tenant: &TenantId, digest: &Digest, policy: &Policy, settings: &Value) -> Digest {
    Digest::of(format!("clawhold-consent-v1 {tenant} {digest} {} {settings}", policy.digest()).as_bytes())
}

/// What an admin chose.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The settings: a JSON object.
    pub settings: &'a Value,
    /// The secrets whose value the package may read.
    pub reveal: &'a BTreeSet<SecretName>,
    /// What it gets less of.
    pub narrowing: &'a Narrowing,
    /// What it got less of until now.
    pub narrowed: Option<&'a Narrowing>,
}

/// Works out what an install of this manifest with this choice would allow, and what of it is new against the
/// `current` policy.
pub fn plan(
    tenant: &TenantId,
    manifest: &Manifest,
    digest: Digest,
    choice: Choice<'_>,
    ceiling: &RunLimits,
    current: Option<&Policy>,
) -> Result<Plan, PlanError> {
    let Choice { settings, reveal, narrowing, narrowed } = choice;
    let mut policy = Policy::from_manifest(manifest, settings, reveal, ceiling)?;
    narrowing.narrow(&mut policy, narrowed)?;
    let consent = consent(tenant, &digest, &policy, settings);
    let secrets = manifest
        .secrets
        .iter()
        .map(|ask| SecretPlan {
            name: ask.name.clone(),
            purpose: ask.purpose.clone(),
            reveal: ask.reveal,
            kind: ask.kind(),
        })
        .collect();
    let (adds, removes) = match current {
        None => (rights(&policy), Vec::new()),
        Some(current) => {
            let Diff { adds, removes } = diff(current, &policy);
            (adds, removes)
        }
    };
    Ok(Plan { secrets, policy, consent, adds, removes })
}

/// Each right in words, one a line.
fn rights(policy: &Policy) -> Vec<String> {
    let mut said = Vec::new();
    for (secret, reveal) in &policy.secrets {
        said.push(match policy.kind(secret) {
            SecretKind::Value if *reveal => format!("read the value of the secret {secret}"),
            SecretKind::Value => format!("use the secret {secret}"),
            SecretKind::Oauth2 => format!("use access tokens that the host fetches with the secret {secret} (oauth2)"),
            SecretKind::AwsSigv4 { service } => {
                format!("have requests signed for AWS {service} with the secret {secret} (aws-sigv4)")
            }
            SecretKind::HttpSignature => format!("have requests signed with the secret {secret} (http-signature)"),
        });
    }
    for rule in &policy.http {
        let credentials: Vec<_> = rule.credentials.iter().map(SecretName::as_str).collect();
        let with = if credentials.is_empty() { String::new() } else { format!(" with {}", credentials.join(", ")) };
        for method in &rule.methods {
            for path in &rule.paths {
                said.push(format!("{} {}://{}{path}{with}", method.as_str(), rule.scheme, rule.host));
            }
        }
    }
    said.extend(policy.audit_actions.iter().map(|action| format!("record {action}")));
    let limits = &policy.limits;
    if policy.wasi {
        said.push("run on WASI: clocks, randomness".to_owned());
    }
    if limits.scratch_bytes > 0 {
        said.push(format!(
            "use {} MiB of scratch files, {} at most, until a run ends",
            limits.scratch_bytes >> 20,
            limits.scratch_files
        ));
    }
    said.push(format!(
        "use {} MiB of memory, {} ms and {} fuel in a run",
        limits.memory_bytes >> 20,
        limits.wall_ms,
        limits.fuel
    ));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(extra: &str) -> Manifest {
        Manifest::parse(&format!(
            "[package]\nname = \"northwind/crm\"\nversion = \"1.0.0\"\ndescription = \"x\"\nlicense = \"MIT\"\n{extra}"
        ))
        .unwrap()
    }

    const HTTP: &str = "[[http]]\nhost = \"api.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1/*\"]\n";
    const MORE: &str = "[[http]]\nhost = \"evil.example.com\"\nmethods = [\"POST\"]\npaths = [\"/*\"]\n";

    fn of(manifest: &Manifest, digest: Digest, current: Option<&Policy>) -> Plan {
        let ceiling = RunLimits::default_ceiling();
        plan(
            &"acme-corp".parse().unwrap(),
            manifest,
            digest,
            Choice {
                settings: &serde_json::json!({}),
                reveal: &BTreeSet::new(),
                narrowing: &Narrowing::default(),
                narrowed: None,
            },
            &ceiling,
            current,
        )
        .unwrap()
    }

    #[test]
    fn hostile_27_an_update_that_asks_for_more_needs_another_yes() {
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let before = of(&manifest(HTTP), first, None);
        let after = of(&manifest(&format!("{HTTP}{MORE}")), second, Some(&before.policy));
        assert_ne!(before.consent, after.consent);
        assert_eq!(after.adds, ["POST https://evil.example.com/*"]);
    }

    #[test]
    fn wasi_and_scratch_files_are_part_of_what_is_accepted() {
        let first = Digest::of(b"1");
        let pure = of(&manifest(""), first, None);
        let wasi = of(&manifest("[wasi]\n"), first, Some(&pure.policy));
        assert_eq!(wasi.adds, ["run on WASI: clocks, randomness"]);
        let files = of(&manifest("[wasi]\nscratch_mb = 8\n"), first, Some(&wasi.policy));
        assert_eq!(files.adds, ["use 8 MiB of scratch files, 256 at most, until a run ends"]);
        let cut = of(&manifest("[wasi]\nscratch_mb = 4000\n"), first, Some(&wasi.policy));
        assert_eq!(cut.adds, ["use 64 MiB of scratch files, 256 at most, until a run ends"]);
        assert!(pure.consent != wasi.consent && wasi.consent != files.consent);
    }

    #[test]
    fn an_admin_may_allow_less_than_is_asked_for() {
        let (ceiling, tenant, digest) = (RunLimits::default_ceiling(), "acme-corp".parse().unwrap(), Digest::of(b"1"));
        let manifest = manifest(&format!("{HTTP}{MORE}"));
        let of = |narrowing: &Narrowing| {
            let (settings, reveal) = (serde_json::json!({}), BTreeSet::new());
            let choice = Choice { settings: &settings, reveal: &reveal, narrowing, narrowed: None };
            plan(&tenant, &manifest, digest, choice, &ceiling, None)
        };
        let whole = of(&Narrowing::default()).unwrap();
        let limits = Asked { memory_mb: Some(8), timeout_ms: Some(u64::MAX), ..Asked::default() };
        let less = Narrowing { without_hosts: BTreeSet::from(["evil.example.com".to_owned()]), limits };
        let narrowed = of(&less).unwrap();
        assert_eq!(crate::change::increases(&whole.policy, &narrowed.policy), [""; 0]);
        assert_eq!((narrowed.policy.http.len(), narrowed.policy.limits.memory_bytes), (1, 8 << 20));
        assert_eq!(narrowed.policy.limits.wall_ms, whole.policy.limits.wall_ms, "more than is asked for is no less");
        assert_ne!(narrowed.consent, whole.consent);
        let unknown = Narrowing { without_hosts: BTreeSet::from(["api.example.org".to_owned()]), ..less };
        let (settings, reveal) = (serde_json::json!({}), BTreeSet::new());
        let again = Choice { settings: &settings, reveal: &reveal, narrowing: &unknown, narrowed: Some(&unknown) };
        assert!(plan(&tenant, &manifest, digest, again, &ceiling, None).is_ok(), "it was left out before");
        let said = of(&unknown).unwrap_err().to_string();
        assert_eq!(said, "the package asks for no host api.example.org; it asks for api.example.com, evil.example.com");
    }

    #[test]
    fn what_is_put_back_has_neither_what_was_left_out_then_nor_what_is_left_out_now() {
        let wide = "[[http]]\nhost = \"*.example.com\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\n";
        let other = "[[http]]\nhost = \"api.example.org:8443\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\n";
        let agreed = of(&manifest(&format!("{HTTP}{wide}{other}")), Digest::of(b"1"), None).policy;
        let narrowing = |hosts: &[&str], memory_mb, timeout_ms| Narrowing {
            without_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            limits: Asked { memory_mb, timeout_ms, ..Asked::default() },
        };
        let none = narrowing(&[], None, None);
        for (case, then, now, hosts) in [
            ("nothing", &none, &none, &["api.example.com", "*.example.com", "api.example.org:8443"][..]),
            ("now", &none, &narrowing(&["api.example.org:8443"], None, None), &["api.example.com", "*.example.com"]),
            ("then", &narrowing(&["*.example.com"], None, None), &none, &["api.example.com", "api.example.org:8443"]),
            (
                "one of many",
                &none,
                &narrowing(&["evil.example.com"], None, None),
                &["api.example.com", "api.example.org:8443"],
            ),
            ("many, of which it has one", &none, &narrowing(&["*.example.com"], None, None), &["api.example.org:8443"]),
            (
                "then and now",
                &narrowing(&["evil.example.com"], None, None),
                &narrowing(&["evil.example.com"], None, None),
                &["api.example.com", "*.example.com", "api.example.org:8443"],
            ),
            (
                "another port",
                &none,
                &narrowing(&["api.example.org"], None, None),
                &["api.example.com", "*.example.com", "api.example.org:8443"],
            ),
        ] {
            let (policy, less) = put_back(&agreed, then, now);
            let left: Vec<String> = policy.http.iter().map(|rule| rule.host.to_string()).collect();
            assert_eq!(left, hosts, "{case}");
            assert_eq!(crate::change::increases(&agreed, &policy), [""; 0], "{case}");
            assert!(less.without_hosts.is_superset(&then.without_hosts), "{case}");
            assert!(less.without_hosts.is_superset(&now.without_hosts), "{case}");
        }
        let (then, now) = (narrowing(&[], Some(32), Some(100)), narrowing(&[], Some(8), Some(200)));
        let (policy, less) = put_back(&agreed, &then, &now);
        assert_eq!((policy.limits.memory_bytes, policy.limits.wall_ms), (8 << 20, 100));
        assert_eq!(less.limits, Asked { memory_mb: Some(8), timeout_ms: Some(100), ..Asked::default() });
    }

    #[test]
    fn the_same_rights_for_other_code_need_another_yes() {
        let manifest = manifest(HTTP);
        let (one, other) = (of(&manifest, Digest::of(b"1"), None), of(&manifest, Digest::of(b"2"), None));
        assert_eq!(one.policy, other.policy);
        assert_ne!(one.consent, other.consent);
    }
}

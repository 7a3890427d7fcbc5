//! What an install would allow, before anybody says yes.

use std::collections::BTreeSet;

use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::policy::{Policy, SettingProblem};
use clawhold_tenancy::secret_kind::SecretKind;
use clawhold_tenancy::{Digest, RunLimits, SecretName, TenantId};
use serde_json::Value;

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
}

/// Works out what an install of this manifest with these settings would allow, and what of it is new against the
/// `current` policy.
pub fn plan(
    tenant: &TenantId,
    manifest: &Manifest,
    digest: Digest,
    settings: &Value,
    reveal: &BTreeSet<SecretName>,
    ceiling: &RunLimits,
    current: Option<&Policy>,
) -> Result<Plan, SettingProblem> {
    let policy = Policy::from_manifest(manifest, settings, reveal, ceiling)?;
    // The code and the settings are part of what is accepted, and so is who accepts it: the same rights for another
    // component, another price list or another tenant are another question.
    let consent =
        Digest::of(format!("clawhold-consent-v1 {tenant} {digest} {} {settings}", policy.digest()).as_bytes());
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
    let before: BTreeSet<String> = current.map(rights).unwrap_or_default().into_iter().collect();
    let adds = rights(&policy).into_iter().filter(|right| !before.contains(right)).collect();
    Ok(Plan { secrets, policy, consent, adds })
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
            &serde_json::json!({}),
            &BTreeSet::new(),
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
    fn the_same_rights_for_other_code_need_another_yes() {
        let manifest = manifest(HTTP);
        let (one, other) = (of(&manifest, Digest::of(b"1"), None), of(&manifest, Digest::of(b"2"), None));
        assert_eq!(one.policy, other.policy);
        assert_ne!(one.consent, other.consent);
    }
}

//! What a policy allows that another does not, in words: whether an update may follow by itself, and what somebody who
//! is asked must know.
//!
//! Rights are compared by what they allow and not by how they are written: `GET https://api.example.com/v1/*` is no
//! more than `GET https://*.example.com/*`. Whatever is in doubt counts as more, which costs a question and nothing
//! else.

mod egress;

use clawhold_tenancy::limits::{Limit, TABLE};
use clawhold_tenancy::policy::Policy;
use clawhold_tenancy::secret_kind::SecretKind;
use clawhold_tenancy::{RunLimits, SecretName};

/// What stands between two policies, one right a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// What the new one allows and the old one did not.
    pub adds: Vec<String>,
    /// What the old one allowed and the new one does not.
    pub removes: Vec<String>,
}

/// Both sides of a change.
pub fn diff(old: &Policy, new: &Policy) -> Diff {
    Diff { adds: increases(old, new), removes: decreases(old, new) }
}

/// What `new` allows and `old` does not. If it is empty, nothing that `new` allows was forbidden before.
pub fn increases(old: &Policy, new: &Policy) -> Vec<String> {
    more(old, new, "was")
}

/// What `old` allowed and `new` does not.
pub fn decreases(old: &Policy, new: &Policy) -> Vec<String> {
    more(new, old, "now")
}

/// What `most` allows and `least` does not; `then` is the word for what a limit is in `least`.
fn more(least: &Policy, most: &Policy, then: &str) -> Vec<String> {
    let mut said = Vec::new();
    for (secret, reveal) in &most.secrets {
        let had = least.secrets.get(secret);
        let grew = had.is_none_or(|revealed| *reveal && !revealed);
        if grew || least.kind(secret) != most.kind(secret) {
            said.push(use_of(secret, *reveal, most.kind(secret)));
        }
    }
    said.extend(egress::more(&least.http, &most.http));
    let actions = most.audit_actions.difference(&least.audit_actions);
    said.extend(actions.map(|action| format!("record {action}")));
    if most.wasi && !least.wasi {
        said.push("run on WASI: clocks, randomness".to_owned());
    }
    limits(&least.limits, &most.limits, then, &mut said);
    said
}

fn use_of(secret: &SecretName, reveal: bool, kind: &SecretKind) -> String {
    match kind {
        SecretKind::Value if reveal => format!("read the value of the secret {secret}"),
        SecretKind::Value => format!("use the secret {secret}"),
        SecretKind::Oauth2 => format!("use access tokens that the host fetches with the secret {secret} (oauth2)"),
        SecretKind::AwsSigv4 { service } => {
            format!("have requests signed for AWS {service} with the secret {secret} (aws-sigv4)")
        }
        SecretKind::HttpSignature => format!("have requests signed with the secret {secret} (http-signature)"),
    }
}

fn limits(least: &RunLimits, most: &RunLimits, then: &str, said: &mut Vec<String>) {
    let scratch = most.scratch_bytes > least.scratch_bytes;
    if scratch {
        said.push(format!(
            "use {} of scratch files, {} at most, until a run ends",
            amount(most.scratch_bytes, in_table("scratch_mb")),
            most.scratch_files
        ));
    }
    for (limit, (little, much)) in TABLE.iter().zip(values(least).into_iter().zip(values(most))) {
        let told = scratch && limit.key.starts_with("scratch_");
        if much > little && !told {
            said.push(format!("use {} ({}), {then} {}", amount(much, limit), limit.key, amount(little, limit)));
        }
    }
}

fn in_table(key: &str) -> &'static Limit {
    TABLE.iter().find(|limit| limit.key == key).expect("the table has every limit")
}

/// In its unit, or in what the unit counts where that does not come out even.
fn amount(value: u64, limit: &Limit) -> String {
    if value.is_multiple_of(limit.scale) {
        format!("{} {}", value / limit.scale, limit.unit)
    } else {
        format!("{value} bytes")
    }
}

/// Every limit, in the order of the table. A limit that is new there does not compile until it stands here as well.
fn values(limits: &RunLimits) -> [u64; TABLE.len()] {
    let RunLimits {
        fuel,
        wall_ms,
        memory_bytes,
        host_calls,
        host_call_bytes,
        lifted_bytes,
        lowered_bytes,
        handles,
        output_bytes,
        log_lines,
        log_line_bytes,
        audit_entries,
        http_requests,
        http_request_bytes,
        http_response_bytes,
        http_timeout_ms,
        wasi_calls,
        scratch_bytes,
        scratch_files,
    } = *limits;
    [
        fuel,
        wall_ms,
        memory_bytes,
        host_calls.into(),
        host_call_bytes,
        lifted_bytes,
        lowered_bytes,
        handles.into(),
        output_bytes,
        log_lines.into(),
        log_line_bytes.into(),
        audit_entries.into(),
        http_requests.into(),
        http_request_bytes,
        http_response_bytes,
        http_timeout_ms,
        wasi_calls.into(),
        scratch_bytes,
        scratch_files.into(),
    ]
}

#[cfg(test)]
mod tests;

//! What a run gives away, without the values of the secrets that it knows, or that its peers do.

use clawhold_capabilities::{Journal, Leak, Leaks, OnLeak};
use clawhold_tenancy::RunLimits;
use clawhold_tenancy::run::Reason;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::invoke::NoAnswer;

/// Bytes that are searched on the spot.
pub(crate) const LARGE: usize = 16 * 1024;

type Answer = Result<Box<RawValue>, NoAnswer>;

/// Takes the values out of everything, and notes which were where.
pub(crate) fn guard(
    mut answer: Answer,
    mut journal: Journal,
    on_leak: OnLeak,
    limits: &RunLimits,
) -> (Answer, Journal) {
    let exposed = std::mem::take(&mut journal.exposed);
    let Some(leaks) = Leaks::of(exposed.iter().map(|((name, _), value)| (name, value))) else {
        return (answer, journal);
    };
    let mut found = std::mem::take(&mut journal.leaks);
    answer = match answer {
        Ok(output) => output_without(&leaks, output, on_leak, limits, &mut found),
        Err(NoAnswer::Skill(kind, message)) => {
            Err(NoAnswer::Skill(kind, without(&leaks, message, "error", &mut found)))
        }
        Err(NoAnswer::Stopped(reason, message)) => {
            Err(NoAnswer::Stopped(reason, without(&leaks, message, "error", &mut found)))
        }
    };
    log_without(&leaks, &mut journal.log, limits.log_line_bytes as usize, &mut found);
    // What the host says itself holds names, and no values.
    for note in journal.notes.iter_mut().filter(|note| !note.of_host) {
        note.resource = without(&leaks, std::mem::take(&mut note.resource), "audit", &mut found);
        if is_in_json(&leaks, &note.detail, "audit", &mut found) {
            r#"{"redacted":true}"#.clone_into(&mut note.detail);
        }
    }
    for told in &mut journal.egress {
        let denied = told.denied.as_mut().map(|denied| [&mut denied.why, &mut denied.remedy]);
        for text in denied.into_iter().flatten().chain([&mut told.origin]) {
            *text = without(&leaks, std::mem::take(text), "request", &mut found);
        }
    }
    journal.leaks = found;
    (answer, journal)
}

fn without(leaks: &Leaks, text: String, place: &'static str, found: &mut Vec<Leak>) -> String {
    leaks.redact(&text, place, found).unwrap_or(text)
}

/// The output without the values, or why there is none.
fn output_without(
    leaks: &Leaks,
    output: Box<RawValue>,
    on_leak: OnLeak,
    limits: &RunLimits,
    found: &mut Vec<Leak>,
) -> Answer {
    let before = found.len();
    let redacted = leaks.redact(output.get(), "output", found);
    // What one reader of JSON writes as an escape another does not: what it stands for is what counts.
    let is_hidden = is_in_json(leaks, redacted.as_deref().unwrap_or(output.get()), "output", found);
    let Some(redacted) = redacted.or_else(|| is_hidden.then(String::new)) else { return Ok(output) };
    let fits = !is_hidden && redacted.len() as u64 <= limits.output_bytes.max(output.get().len() as u64);
    match RawValue::from_string(redacted) {
        Ok(redacted) if fits && on_leak == OnLeak::Redact => Ok(redacted),
        _ => {
            let secrets: Vec<&str> = found[before..].iter().map(|leak| leak.secret.as_str()).collect();
            let what = format!(
                "the skill's output holds the value of the secret {}, and was kept back",
                secrets.join(" and ")
            );
            Err(NoAnswer::Stopped(Reason::Denied, format!("{what}; {}", Reason::Denied.remedy())))
        }
    }
}

/// Whether a value is in the texts of a JSON document, as they are read.
fn is_in_json(leaks: &Leaks, json: &str, place: &'static str, found: &mut Vec<Leak>) -> bool {
    fn texts<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
        match value {
            Value::String(text) => into.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
            Value::Object(fields) => fields.iter().for_each(|(name, item)| {
                into.push(name);
                texts(item, into);
            }),
            _ => {}
        }
    }
    let plain = leaks.redact(json, place, found).is_some();
    // Only an escape makes a difference.
    if plain || !json.contains('\\') {
        return plain;
    }
    let Ok(value) = serde_json::from_str::<Value>(json) else { return false };
    let mut all = Vec::new();
    texts(&value, &mut all);
    all.into_iter().any(|text| leaks.redact(text, place, found).is_some())
}

/// Log lines without the values, also those that go on in the next line, and what is left of one where a line was cut.
fn log_without(leaks: &Leaks, log: &mut [String], most: usize, found: &mut Vec<Leak>) {
    // Without the levels, which stand between the parts of a value that goes on.
    let lines: Vec<&str> = log.iter().map(|line| line.split_once(' ').map_or("", |(_, said)| said)).collect();
    // A cut leaves up to three bytes less, so as not to divide a character.
    let cut: Vec<bool> = lines.iter().map(|said| said.len() + 3 >= most).collect();
    if let Some(redacted) = leaks.redact_all(&lines, "log", found) {
        for (line, said) in log.iter_mut().zip(redacted) {
            let level = line.split_once(' ').map_or(line.as_str(), |(level, _)| level);
            *line = format!("{level} {said}");
        }
    }
    for (line, _) in log.iter_mut().zip(cut).filter(|(_, cut)| *cut) {
        let kept = leaks.trim(line, "log", found).len();
        line.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use clawhold_capabilities::Note;
    use clawhold_secret_store::SecretValue;
    use clawhold_tenancy::audit::Outcome;

    use super::*;

    const VALUE: &str = "s3cr3t/<v4lue>";

    /// What comes of an answer of a run that was shown the value.
    fn guarded(answer: Answer, journal: Journal, on_leak: OnLeak) -> (Answer, Journal) {
        let mut journal = journal;
        let name = "crm".parse().unwrap();
        journal.exposed.insert((name, None), SecretValue::from(VALUE.to_owned()));
        guard(answer, journal, on_leak, &RunLimits::default())
    }

    fn output(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn hostile_20_an_escape_hides_no_value() {
        for json in [
            r#"{"it": "s3cr3t/\u003cv4lue\u003e"}"#,
            r#"["s3cr3t\/<v4lue>"]"#,
            r#"{"s3cr3\u0074/<v4lue>": 1}"#,
            r#"[{"a": ["x \u00733cr3t/<v4lue> y"]}]"#,
        ] {
            let (answer, journal) = guarded(Ok(output(json)), Journal::default(), OnLeak::Redact);
            assert!(matches!(answer, Err(NoAnswer::Stopped(Reason::Denied, _))), "{json}");
            assert_eq!(journal.leaks.len(), 1, "{json}");
        }
        let (answer, journal) = guarded(Ok(output(r#"["\u0041 letter"]"#)), Journal::default(), OnLeak::Redact);
        assert!(answer.is_ok_and(|output| output.get() == r#"["\u0041 letter"]"#) && journal.leaks.is_empty());
    }

    #[test]
    fn an_output_that_grows_beyond_what_it_may_be_is_kept_back() {
        let short = "a1b2c3d4";
        let journal = || {
            let mut journal = Journal::default();
            let name = "a-name-that-is-longer-than-the-value".parse().unwrap();
            journal.exposed.insert((name, None), SecretValue::from(short.to_owned()));
            journal
        };
        let limits = RunLimits { output_bytes: 1_000, ..RunLimits::default() };
        let answer = Ok(output(&format!("\"{}\"", format!("{short} ").repeat(100))));
        let (answer, _) = guard(answer, journal(), OnLeak::Redact, &limits);
        assert!(matches!(answer, Err(NoAnswer::Stopped(Reason::Denied, _))));
        let (answer, _) = guard(Ok(output(&format!("\"{short}\""))), journal(), OnLeak::Redact, &limits);
        assert!(answer.is_ok());
    }

    #[test]
    fn hostile_20_what_a_cut_leaves_of_a_value_goes_and_what_the_host_says_stays() {
        let limits = RunLimits::default();
        let most = limits.log_line_bytes as usize;
        let line = format!("{}{}", "x".repeat(most - 10), &VALUE[..10]);
        let note = |of_host| Note {
            action: "secret.reveal".to_owned(),
            resource: format!("secret:{VALUE}"),
            outcome: Outcome::Success,
            detail: r#"{"it": "s3cr3t\/<v4lue>"}"#.to_owned(),
            of_host,
        };
        let journal = Journal {
            log: vec![format!("info {line}"), "info s3cr3t/<v4 is no cut".to_owned()],
            notes: vec![note(true), note(false)],
            ..Journal::default()
        };
        let (answer, journal) = guarded(Ok(output("1")), journal, OnLeak::Refuse);
        assert!(answer.is_ok());
        assert_eq!(journal.log, [format!("info {}", "x".repeat(most - 10)), "info s3cr3t/<v4 is no cut".to_owned()]);
        assert_eq!(journal.notes[0], note(true));
        assert_eq!(
            (&*journal.notes[1].resource, &*journal.notes[1].detail),
            ("secret:[redacted: crm]", r#"{"redacted":true}"#)
        );
    }
}

//! `clawhold:skill/audit`.

use clawhold_sandbox::contract::clawhold::skill::audit::{Error, Host, Level, Outcome};
use clawhold_tenancy::audit;
use clawhold_tenancy::quota::{Amounts, Dimension};

use crate::exits::used_up;
use crate::{Note, RunHost};

/// Bytes of an entry's resource. Enough for a URL path or two ids.
const RESOURCE_BYTES: usize = 256;
/// Bytes of an entry's detail.
const DETAIL_BYTES: usize = 4096;

impl Host for RunHost {
    fn record(
        &mut self,
        action: String,
        resource: String,
        outcome: Outcome,
        detail: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.charge(action.len() + resource.len() + detail.len())?;
        Ok(self.take(action, resource, outcome, detail))
    }

    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.charge(message.len())?;
        let bytes = self.limits.log_line_bytes as usize;
        let line = format!("{} {}", word(level), cut(&message, bytes));
        let mut journal = self.note();
        // It takes the place of a trap's own message, so it must say something.
        if level == Level::Fatal && !message.trim().is_empty() {
            journal.fatal = Some(cut(&message, bytes).to_owned());
        }
        journal.line(self.limits.log_lines, line);
        Ok(())
    }
}

impl RunHost {
    fn take(&mut self, action: String, resource: String, outcome: Outcome, detail: String) -> Result<(), Error> {
        let declared = self.authority.as_ref().is_some_and(|a| a.policy.audit_actions.contains(&action));
        if !declared {
            return Err(Error::UndeclaredAction(cut(&action, 64).to_owned()));
        }
        if resource.is_empty() || resource.len() > RESOURCE_BYTES || resource.chars().any(char::is_control) {
            let said = format!("resource: write 1 to {RESOURCE_BYTES} bytes without control characters");
            return Err(Error::Invalid(said));
        }
        if detail.len() > DETAIL_BYTES {
            return Err(Error::Invalid(format!("detail: it has {} bytes, {DETAIL_BYTES} are allowed", detail.len())));
        }
        if !detail.is_empty() && serde_json::from_str::<serde_json::Map<_, _>>(&detail).is_err() {
            return Err(Error::Invalid("detail: write a JSON object, or nothing".to_owned()));
        }
        let most = self.limits.audit_entries as usize;
        let mut journal = self.note();
        if journal.notes.len() >= most {
            journal.notes_refused += 1;
            return Err(Error::Budget(format!("a run may write {most} audit entries")));
        }
        if let Some(authority) = &self.authority
            && let Err(over) = authority.meter.charge(&Amounts::of(Dimension::AuditRecords, 1))
        {
            journal.notes_refused += 1;
            return Err(Error::Budget(used_up(&over)));
        }
        let outcome = match outcome {
            Outcome::Success => audit::Outcome::Success,
            Outcome::Failure => audit::Outcome::Failure,
            Outcome::Denied => audit::Outcome::Denied,
        };
        journal.notes.push(Note { action, resource, outcome, detail, of_host: false });
        Ok(())
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Fatal => "fatal",
    }
}

/// The first `most` bytes, not cutting a character in two.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use clawhold_tenancy::RunLimits;

    use super::*;

    #[test]
    fn a_last_word_that_says_nothing_is_none() {
        let mut host = RunHost::without_authority(RunLimits::default());
        for (said, kept) in [("", None), (" \n", None), ("no greeting", Some("no greeting")), ("", Some("no greeting"))]
        {
            host.log(Level::Fatal, said.to_owned()).unwrap();
            assert_eq!(host.note().fatal.as_deref(), kept, "{said:?}");
        }
    }
}

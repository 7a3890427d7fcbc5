//! The gate before a package is published: everything that is wrong with it, said at once.

use std::fmt;

use clawhold_tenancy::PackageName;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::names::Known;

/// Faults that are said. 50: nobody reads more at a time, and a hostile package could have any number.
const FAULTS: usize = 50;

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// All that is wrong with a package, in the order in which it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    said: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn add(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        if self.said.len() < FAULTS {
            self.said.push(Fault { what: what.into(), remedy: remedy.into() });
        } else {
            self.more += 1;
        }
    }

    /// What a check gave; its error is one more fault. An error that says what to do has it behind a `;`.
    pub fn check<T>(&mut self, checked: Result<T, impl fmt::Display>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(error) => {
                let said = error.to_string();
                let (what, remedy) = said.split_once("; ").unwrap_or((&said, "correct it and publish again"));
                self.add(what, remedy);
                None
            }
        }
    }

    /// The faults that are said.
    pub fn said(&self) -> &[Fault] {
        &self.said
    }

    /// Nothing, if nothing is wrong.
    pub fn into_result(self) -> Result<(), Self> {
        if self.said.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.said.len() + self.more;
        let things = if count == 1 { "thing is" } else { "things are" };
        write!(f, "{count} {things} wrong with the package:")?;
        for (number, Fault { what, remedy }) in (1..).zip(&self.said) {
            write!(f, "\n{number}. {what}\n   {remedy}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Whether the package may have this name, if it is a new one.
pub fn check_name(package: &PackageName, known: &Known, faults: &mut Faults) {
    if let Some(alike) = known.look_alike(package) {
        faults.add(alike.to_string(), "choose a name that nobody takes for it, or ask the operator");
    }
}

/// What has become of a name so far.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// Every version that was published under it, whatever became of it.
    pub published: &'a [Version],
    /// Whether the package was deleted.
    pub deleted: bool,
}

/// Whether this version may come next.
///
/// Versions rise within their release line, which is what has the same major and minor number: 1.2.4 may come after
/// 1.3.0, and not after 1.2.5. A number is never given twice, whatever became of the first.
pub fn check_version(new: &Version, history: History<'_>, faults: &mut Faults) {
    if history.deleted {
        // Whoever trusts a name trusts who had it.
        faults.add("a package of this name was deleted, and its name is not given again", "choose another name");
        return;
    }
    let mut plain = new.clone();
    plain.build = semver::BuildMetadata::EMPTY;
    if !new.build.is_empty() {
        // Two versions that differ in it alone have no order.
        faults.add(format!("the version {new} has build metadata"), format!("write {plain}, or a higher one"));
    }
    let line = history.published.iter().filter(|other| (other.major, other.minor) == (new.major, new.minor));
    let Some(highest) = line.max_by(|one, other| one.cmp_precedence(other)) else { return };
    let remedy = format!("use {} or higher", after(highest));
    if history.published.iter().any(|other| other.cmp_precedence(&plain).is_eq()) {
        faults.add(format!("the version {plain} is published already, and a version never changes"), remedy);
    } else if plain.cmp_precedence(highest).is_lt() {
        faults.add(format!("the version {plain} is below {highest}, which is published already"), remedy);
    }
}

/// The release that comes next.
fn after(version: &Version) -> Version {
    let patch = if version.pre.is_empty() { version.patch.saturating_add(1) } else { version.patch };
    Version::new(version.major, version.minor, patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_comes_after_those_of_its_release_line_and_is_never_given_twice() {
        let published = ["1.2.3", "1.2.5", "1.3.0", "1.4.0-rc.1", "2.0.0"].map(version);
        for (new, says, remedy) in [
            ("1.2.6", "", ""),
            ("1.2.6-rc.1", "", ""),
            ("1.3.1", "", ""),
            ("1.4.0-rc.2", "", ""),
            ("1.4.0", "", ""),
            ("1.1.0", "", ""),
            ("1.5.0", "", ""),
            ("3.0.0", "", ""),
            ("1.2.5", "1.2.5 is published already", "use 1.2.6 or higher"),
            ("1.2.3", "1.2.3 is published already", "use 1.2.6 or higher"),
            ("1.2.4", "1.2.4 is below 1.2.5", "use 1.2.6 or higher"),
            ("1.2.5-rc.1", "1.2.5-rc.1 is below 1.2.5", "use 1.2.6 or higher"),
            ("1.4.0-rc.1", "1.4.0-rc.1 is published already", "use 1.4.0 or higher"),
            ("1.4.0-beta", "1.4.0-beta is below 1.4.0-rc.1", "use 1.4.0 or higher"),
            ("1.2.6+build", "1.2.6+build has build metadata", "write 1.2.6, or a higher one"),
        ] {
            let mut faults = Faults::new();
            check_version(&version(new), History { published: &published, deleted: false }, &mut faults);
            match faults.said() {
                [] => assert_eq!(says, "", "{new}"),
                [fault] => {
                    assert!(!says.is_empty() && fault.what.contains(says), "{new}: {fault:?}");
                    assert_eq!(fault.remedy, remedy, "{new}");
                }
                more => panic!("{new}: {more:?}"),
            }
        }
    }

    #[test]
    fn build_metadata_makes_no_other_version() {
        let mut faults = Faults::new();
        let published = [version("1.2.5")];
        check_version(&version("1.2.5+new"), History { published: &published, deleted: false }, &mut faults);
        let said: Vec<&str> = faults.said().iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].contains("1.2.5 is published already"), "{said:?}");
    }

    #[test]
    fn hostile_29_a_deleted_name_is_not_given_again() {
        let mut faults = Faults::new();
        check_version(&version("9.0.0"), History { published: &[], deleted: true }, &mut faults);
        assert_eq!(faults.said()[0].remedy, "choose another name");
    }

    #[test]
    fn hostile_29_a_name_that_is_taken_for_another_is_refused() {
        let known = Known::new([], ["northwind/crm".parse().unwrap()]);
        let mut faults = Faults::new();
        check_name(&"northw1nd/crm".parse().unwrap(), &known, &mut faults);
        check_name(&"globex/crm".parse().unwrap(), &known, &mut faults);
        assert_eq!(faults.said().len(), 1);
        assert!(faults.said()[0].what.contains("looks like northwind/crm"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut faults = Faults::new();
        assert_eq!(faults.check(Ok::<_, String>(5)), Some(5));
        assert_eq!(faults.clone().into_result(), Ok(()));
        assert_eq!(faults.check(Err::<(), _>("the file is cut; build it again")), None);
        assert_eq!(faults.check(Err::<(), _>("it is odd")), None);
        faults.add("no licence", "write one");
        assert_eq!(
            faults.to_string(),
            "3 things are wrong with the package:\n\
             1. the file is cut\n   build it again\n\
             2. it is odd\n   correct it and publish again\n\
             3. no licence\n   write one"
        );
        assert_eq!(faults.clone().into_result(), Err(faults));
    }

    #[test]
    fn a_package_with_any_number_of_faults_is_reported_in_a_page() {
        let mut faults = Faults::new();
        for number in 0..10_000 {
            faults.add(format!("skill {number} is odd"), "correct it");
        }
        let said = faults.to_string();
        assert!(said.starts_with("10000 things are wrong") && said.ends_with("and 9950 more"));
        assert_eq!(said.lines().count(), 2 + 2 * FAULTS);
    }
}

//! Names that are taken for others: `northw1nd/crm` for `northwind/crm`.
//!
//! Two publishers are look-alikes if their names
//!
//! - are the same once what looks alike is written alike (`0` and `o`, `1`, `i` and `l`, `rn` and `m`) and hyphens are
//!   left out, or
//! - are one typing error apart: a character more, less or other, or two that changed places. Not so in names of fewer
//!   than [`LONG`] characters, where that is mostly another word, nor where people number things or abbreviate:
//!   `team-1` and `team-2`, `team-a` and `team-b`, `corp-uk` and `corp-us`.
//!
//! A package is a look-alike of another publisher's if both the publishers and what stands behind the slash are alike
//! or the same. So `acme/crm` and `globex/crm` live side by side, and a publisher may call its own packages what it
//! likes.
//!
//! It knows nothing of what a name means: `northwind-official` is for the operator to see, who registers publishers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use clawhold_tenancy::{PackageName, Publisher};
use unicode_security::confusable_detection::skeleton as unicode_skeleton;

/// Characters from which on one typing error makes a look-alike. Of all words with four letters, each has dozens that
/// are one letter apart (`mail`, `main`, `maid`).
pub const LONG: usize = 5;

/// Characters of a part between hyphens that are an abbreviation or a letter of its own, such as `uk` or `a`.
const ABBREVIATION: usize = 2;

/// Bytes of a text that are looked at for what it imitates: the longest name, each character of it in four bytes.
const IMITATION_BYTES: usize = 4 * 127;

/// The names that there are.
#[derive(Debug, Clone)]
pub struct Known {
    publishers: Vec<Named>,
    /// What stands behind the slash, by place in `publishers`.
    packages: Vec<Vec<Named>>,
    by_skeleton: HashMap<Box<str>, Vec<u32>>,
    /// Hashes of each name with one character left out or none, with its place in `publishers`; sorted. Two names that
    /// are one typing error apart have one of them in common.
    by_deletion: Vec<(u32, u32)>,
}

#[derive(Debug, Clone)]
struct Named {
    text: Box<str>,
    skeleton: Box<str>,
}

/// A name that is taken for another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {name} {why} {other}, which is another publisher's")]
pub struct LookAlike {
    /// The new name.
    pub name: String,
    /// The one that is there. For who may see it: it may be some tenant's own.
    pub other: String,
    /// Why.
    pub why: Why,
}

/// Why a name is taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its characters look alike.
    Looks,
    /// There is one typing error between them.
    Typing,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Looks => "looks like",
            Self::Typing => "is one typing error away from",
        })
    }
}

impl Known {
    /// All names that there are, and were: one that was deleted still is in people's minds. Publishers without a
    /// package are given by themselves.
    pub fn new(
        publishers: impl IntoIterator<Item = Publisher>,
        packages: impl IntoIterator<Item = PackageName>,
    ) -> Self {
        let mut all: BTreeMap<Publisher, Vec<Named>> =
            publishers.into_iter().map(|publisher| (publisher, Vec::new())).collect();
        for package in packages {
            all.entry(package.publisher()).or_default().push(Named::new(package.name()));
        }
        let mut known =
            Self { publishers: Vec::new(), packages: Vec::new(), by_skeleton: HashMap::new(), by_deletion: Vec::new() };
        for (at, (publisher, packages)) in (0..).zip(all) {
            let named = Named::new(publisher.as_str());
            known.by_skeleton.entry(named.skeleton.clone()).or_default().push(at);
            known.by_deletion.extend(deletions(&named.text).map(|hash| (hash, at)));
            known.publishers.push(named);
            known.packages.push(packages);
        }
        known.by_deletion.sort_unstable();
        known
    }

    /// The publisher that a new one would be taken for.
    pub fn publisher_look_alike(&self, publisher: &Publisher) -> Option<LookAlike> {
        let (at, why) = self.alike(publisher.as_str()).into_iter().next()?;
        Some(LookAlike { name: publisher.to_string(), other: self.publishers[at].text.to_string(), why })
    }

    /// The package of another publisher that a new one would be taken for.
    pub fn look_alike(&self, package: &PackageName) -> Option<LookAlike> {
        let name = Named::new(package.name());
        self.alike(package.publisher().as_str()).into_iter().find_map(|(at, publishers)| {
            let alike =
                |other: &Named| if other.text == name.text { Some(publishers) } else { name.is_taken_for(other) };
            let (other, why) = self.packages[at].iter().find_map(|other| Some((other, alike(other)?)))?;
            let other = format!("{}/{}", self.publishers[at].text, other.text);
            Some(LookAlike { name: package.to_string(), other, why: why.max(publishers) })
        })
    }

    /// Other publishers with a name like this one, in the order of their names.
    fn alike(&self, publisher: &str) -> BTreeMap<usize, Why> {
        let new = Named::new(publisher);
        let looks = self.by_skeleton.get(&new.skeleton).into_iter().flatten().copied();
        let typed = deletions(publisher).flat_map(|hash| {
            let from = self.by_deletion.partition_point(|(other, _)| *other < hash);
            self.by_deletion[from..].iter().take_while(move |(other, _)| *other == hash).map(|(_, at)| *at)
        });
        looks
            .chain(typed)
            .map(|at| at as usize)
            .filter_map(|at| Some((at, new.is_taken_for(&self.publishers[at])?)))
            .collect()
    }
}

impl Named {
    fn new(text: &str) -> Self {
        Self { text: text.into(), skeleton: skeleton(text).into() }
    }

    fn is_taken_for(&self, other: &Self) -> Option<Why> {
        if self.text == other.text {
            None
        } else if self.skeleton == other.skeleton {
            Some(Why::Looks)
        } else {
            mistyped(self.text.as_bytes(), other.text.as_bytes()).then_some(Why::Typing)
        }
    }
}

/// The name as somebody sees it who does not look twice. No two digits become the same, so numbers stay apart.
fn skeleton(name: &str) -> String {
    let mut seen = String::with_capacity(name.len());
    let mut rest = name.bytes().filter(|byte| *byte != b'-').peekable();
    while let Some(byte) = rest.next() {
        let (one, both) = match (byte, rest.peek()) {
            (b'r', Some(b'n')) => ('m', true),
            (b'v', Some(b'v')) => ('w', true),
            (b'c', Some(b'l' | b'1')) => ('d', true),
            (b'0', _) => ('o', false),
            (b'1' | b'i', _) => ('l', false),
            (b'2', _) => ('z', false),
            (b'5', _) => ('s', false),
            (b'8', _) => ('b', false),
            (b'9', _) => ('g', false),
            (other, _) => (char::from(other), false),
        };
        seen.push(one);
        if both {
            rest.next();
        }
    }
    seen
}

/// Whether two names are one typing error apart (Damerau and Levenshtein's distance), and no numbers or abbreviations.
fn mistyped(one: &[u8], other: &[u8]) -> bool {
    if one.len().min(other.len()) < LONG {
        return false;
    }
    let before = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one_rest, other_rest) = (&one[before..], &other[before..]);
    let after = one_rest.iter().rev().zip(other_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (differs, instead) = (&one_rest[..one_rest.len() - after], &other_rest[..other_rest.len() - after]);
    let digits = differs.iter().chain(instead).all(u8::is_ascii_digit);
    match (differs, instead) {
        ([_], [_]) => !digits && part(one, before).len() > ABBREVIATION,
        ([_], []) => !(digits && beside_a_digit(one, before)),
        ([], [_]) => !(digits && beside_a_digit(other, before)),
        ([a, b], [c, d]) => !digits && (a, b) == (d, c),
        _ => false,
    }
}

fn beside_a_digit(name: &[u8], at: usize) -> bool {
    let digit = |at: Option<usize>| at.and_then(|at| name.get(at)).is_some_and(u8::is_ascii_digit);
    digit(at.checked_sub(1)) || digit(at.checked_add(1))
}

/// What stands between the hyphens around this place.
fn part(name: &[u8], at: usize) -> &[u8] {
    let from = name[..at].iter().rposition(|byte| *byte == b'-').map_or(0, |hyphen| hyphen + 1);
    let to = name[at..].iter().position(|byte| *byte == b'-').map_or(name.len(), |more| at + more);
    name.get(from..to).unwrap_or_default()
}

/// Hashes (FNV-1a) of a name as it is, and with each of its characters left out. What has the same hash by chance is
/// looked at once more.
fn deletions(name: &str) -> impl Iterator<Item = u32> {
    let kept = |without: usize| name.bytes().enumerate().filter(move |(at, _)| *at != without);
    (0..=name.len()).map(move |without| {
        kept(without).fold(0x811c_9dc5, |hash: u32, (_, byte)| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    })
}

/// The name that a text imitates with characters of other scripts, which no name has: so that its refusal can say so.
/// By the table of confusable characters of Unicode Technical Standard 39.
pub fn said_like(text: &str) -> Option<String> {
    if text.is_ascii() || text.len() > IMITATION_BYTES {
        return None;
    }
    let mut seen = String::new();
    for one in text.chars().flat_map(char::to_lowercase) {
        if one.is_ascii() {
            seen.push(one);
        } else {
            let looks: String = unicode_skeleton(one.encode_utf8(&mut [0; 4])).filter(|c| !accent(*c)).collect();
            // In the table an `m` is an `r` with an `n`.
            seen.push_str(&looks.to_lowercase().replace("rn", "m"));
        }
    }
    let name = seen.parse::<PackageName>().is_ok() || seen.parse::<Publisher>().is_ok();
    name.then_some(seen)
}

/// The block of combining diacritical marks.
fn accent(one: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&one)
}

#[cfg(test)]
mod tests;

//! Which newer version an install follows by itself.
//!
//! Only what asks for no more than was agreed to may follow at all; see [`crate::change`]. A cool-down leaves others
//! the time to find out what is wrong with a version, and the host to revoke it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::index::Status;

/// How old a version must be before an install follows it, unless the operator says otherwise: 72 hours, in
/// microseconds. A bad one published before a weekend is found out on the first day of work.
pub const COOL_DOWN_US: i64 = 72 * 3600 * 1_000_000;

/// How far an install follows by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Not at all.
    #[default]
    Pinned,
    /// To corrections: 1.4.0 to 1.4.1.
    Patch,
    /// To whatever semantic versioning calls compatible: 1.4.0 to 1.5.0.
    Minor,
}

impl Channel {
    /// Every channel, from near to far.
    pub const ALL: [Self; 3] = [Self::Pinned, Self::Patch, Self::Minor];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Patch => "patch",
            Self::Minor => "minor",
        }
    }

    /// Whether an install of one version may follow to another.
    ///
    /// Neither channel leaves what the current version is compatible with by semantic versioning: from 0.3.1 on that is
    /// 0.3, and from 0.0.1 on nothing. A pre-release is followed only by those of the same numbers, and by releases.
    pub fn permits(self, from: &Version, to: &Version) -> bool {
        let near = match self {
            Self::Pinned => return false,
            Self::Patch => (from.major, from.minor) == (to.major, to.minor),
            Self::Minor => true,
        };
        near && to.cmp_precedence(from).is_gt() && compatible(from).matches(to)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no channel; use pinned, patch or minor")]
pub struct BadChannel;

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(text: &str) -> Result<Self, BadChannel> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text).ok_or(BadChannel)
    }
}

/// A version that an install might follow to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The version.
    pub version: Version,
    /// Since when it can be installed without a break: when the host took it, or when what stood against it was taken back. In
    /// microseconds since 1970. One that nobody could have looked into has not cooled down.
    pub good_since_us: i64,
    /// What becomes of it.
    pub status: Status,
}

/// The versions that an install may follow to, the newest first; none to stay. Whether one asks for more is not looked at here.
pub fn follow<'a>(
    current: &Version,
    channel: Channel,
    candidates: &'a [Candidate],
    now_us: i64,
    cool_down_us: i64,
) -> Vec<&'a Candidate> {
    let mut all: Vec<&Candidate> = candidates
        .iter()
        .filter(|next| next.status.may_install() && channel.permits(current, &next.version))
        .filter(|next| now_us.saturating_sub(next.good_since_us) >= cool_down_us)
        .collect();
    all.sort_by(|one, other| other.version.cmp_precedence(&one.version));
    all
}

/// Cargo's `^`, which has the rules for 0.x and for pre-releases.
fn compatible(version: &Version) -> VersionReq {
    VersionReq {
        comparators: vec![semver::Comparator {
            op: semver::Op::Caret,
            major: version.major,
            minor: Some(version.minor),
            patch: Some(version.patch),
            pre: version.pre.clone(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1_000_000;
    const NOW: i64 = 1000 * HOUR;

    fn candidate(version: &str, hours: i64, status: Status) -> Candidate {
        Candidate { version: version.parse().unwrap(), good_since_us: NOW - hours * HOUR, status }
    }

    fn followed(current: &str, channel: Channel, candidates: &[Candidate]) -> Option<String> {
        all(current, channel, candidates).into_iter().next()
    }

    fn all(current: &str, channel: Channel, candidates: &[Candidate]) -> Vec<String> {
        let all = follow(&current.parse().unwrap(), channel, candidates, NOW, COOL_DOWN_US);
        all.into_iter().map(|next| next.version.to_string()).collect()
    }

    #[test]
    fn an_install_follows_to_the_newest_version_of_its_channel() {
        let old = |version| candidate(version, 100, Status::Active);
        let all: Vec<Candidate> = [
            "0.0.1",
            "0.0.2",
            "0.3.1",
            "0.3.2",
            "0.3.3-rc.1",
            "0.4.0",
            "1.3.9",
            "1.4.0",
            "1.4.1",
            "1.4.10",
            "1.5.0-rc.1",
            "1.5.0-rc.2",
            "1.5.0",
            "1.5.1-rc.1",
            "1.6.0-rc.1",
            "2.0.0-rc.1",
            "2.0.0-rc.2",
            "2.1.0-rc.1",
        ]
        .map(old)
        .to_vec();
        for (current, patch, minor) in [
            ("1.4.0", Some("1.4.10"), Some("1.5.0")),
            ("1.3.0", Some("1.3.9"), Some("1.5.0")),
            ("1.5.0", None, None),
            ("1.9.0", None, None),
            ("1.5.0-rc.1", Some("1.5.0"), Some("1.5.0")),
            ("1.6.0-rc.1", None, None),
            ("2.0.0-rc.1", Some("2.0.0-rc.2"), Some("2.0.0-rc.2")),
            ("1.5.1", None, None),
            ("0.3.1", Some("0.3.2"), Some("0.3.2")),
            ("0.2.0", None, None),
            ("0.0.1", None, None),
        ] {
            let patch = patch.map(str::to_owned);
            assert_eq!(followed(current, Channel::Pinned, &all), None, "{current}");
            assert_eq!(followed(current, Channel::Patch, &all), patch, "{current}");
            assert_eq!(followed(current, Channel::Minor, &all).as_deref(), minor, "{current}");
        }
    }

    #[test]
    fn a_version_is_followed_only_when_it_is_old_enough_and_good() {
        for (case, next, expected) in [
            ("old enough", candidate("1.4.2", 72, Status::Active), "1.4.2"),
            ("too young", candidate("1.4.2", 71, Status::Active), "1.4.1"),
            ("old, and taken back from a yank an hour ago", candidate("1.4.2", 1, Status::Active), "1.4.1"),
            ("of tomorrow", candidate("1.4.2", -24, Status::Active), "1.4.1"),
            ("yanked", candidate("1.4.2", 100, Status::Yanked), "1.4.1"),
            ("quarantined", candidate("1.4.2", 100, Status::Quarantined), "1.4.1"),
            ("revoked", candidate("1.4.2", 100, Status::Revoked), "1.4.1"),
        ] {
            let all = [next, candidate("1.4.1", 100, Status::Active)];
            assert_eq!(followed("1.4.0", Channel::Minor, &all).as_deref(), Some(expected), "{case}");
        }
        let odd = [Candidate { good_since_us: i64::MIN, ..candidate("1.4.1", 0, Status::Active) }];
        assert_eq!(followed("1.4.0", Channel::Patch, &odd).as_deref(), Some("1.4.1"), "no overflow");
    }

    #[test]
    fn older_versions_come_behind_newer_ones() {
        let of = |version| candidate(version, 100, Status::Active);
        let candidates = ["1.4.9", "1.5.0", "1.4.10", "1.3.0", "2.0.0"].map(of);
        assert_eq!(all("1.4.0", Channel::Minor, &candidates), ["1.5.0", "1.4.10", "1.4.9"]);
        assert_eq!(all("1.4.0", Channel::Patch, &candidates), ["1.4.10", "1.4.9"]);
    }

    #[test]
    fn a_channel_is_read_back_as_it_was_written() {
        for channel in Channel::ALL {
            assert_eq!(channel.to_string().parse(), Ok(channel));
            assert_eq!(serde_json::to_value(channel).unwrap(), channel.as_str());
        }
        assert_eq!(Channel::default(), Channel::Pinned);
        for bad in ["", "Minor", "major", "latest"] {
            assert_eq!(bad.parse::<Channel>(), Err(BadChannel));
        }
    }
}

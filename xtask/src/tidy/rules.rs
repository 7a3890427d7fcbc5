//! The rules, as tables. A crate goes by its folder, as in ARCHITECTURE.md.

/// Crates that may see only what is below them, lowest layer first. Those of one layer never see each other.
pub(super) const LAYERS: [&[&str]; 6] = [
    &["host/tenancy"],
    &["host/sandbox", "host/store", "host/secret-store", "host/limiter", "host/bus", "host/llm", "host/telemetry"],
    &["host/capabilities", "marketplace"],
    &["host/runtime"],
    &["host/api", "host/console"],
    &["host/cli"],
];

/// Folders whose crates see only crates of certain folders.
pub(super) const APART: [Apart; 3] = [
    Apart { folder: "sdk-guest/", sees: &["sdk-guest/"], why: "an SDK sees the contract and nothing of the host" },
    Apart { folder: "skills/", sees: &["sdk-guest/"], why: "a skill sees its SDK and nothing else" },
    Apart { folder: "xtask", sees: &[], why: "xtask is built before anything else, and must be built in seconds" },
];

/// Folders whose crates may see every crate.
pub(super) const FREE: [&str; 1] = ["tests/"];

/// What the tests of the host's crates may see, and their code may not: servers that are not ours.
pub(super) const OF_TESTS: &str = "tests/support";

/// Libraries that stay where they belong. A family goes by its first name: `sqlx` is also `sqlx-core`.
pub(super) const LIBRARIES: [Library; 4] = [
    Library {
        name: "wasmtime",
        // The benchmark's baseline is the engine alone.
        folders: &["host/sandbox", "host/capabilities", "tests/bench"],
        why: "only the sandbox and the imports it serves know the engine",
    },
    // The suites change rows behind the host's back, as whoever has the database could.
    Library {
        name: "sqlx",
        folders: &["host/store", "tests/suites"],
        why: "no query outside of a store's transaction",
    },
    Library { name: "axum", folders: &["host/api", "host/console", "tests/"], why: "use-cases know nothing of HTTP" },
    Library { name: "clap", folders: &["host/cli"], why: "only the program reads a command line" },
];

/// All that xtask may use.
pub(super) const OF_XTASK: [&str; 6] = ["anyhow", "rustix", "serde_json", "signal-hook", "tempfile", "ureq"];

/// Lines of a Rust file that ask to be split, and lines that must be.
pub(super) const LONG_FILE: usize = 400;
pub(super) const LONGEST_FILE: usize = 600;

pub(super) struct Apart {
    pub(super) folder: &'static str,
    pub(super) sees: &'static [&'static str],
    pub(super) why: &'static str,
}

pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) folders: &'static [&'static str],
    pub(super) why: &'static str,
}

/// Whether a crate's folder is the one that a rule names, or lies in it if the rule ends in a slash.
pub(super) fn is_in(folder: &str, rule: &str) -> bool {
    if rule.ends_with('/') { folder.starts_with(rule) } else { folder == rule }
}

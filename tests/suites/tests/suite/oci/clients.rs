//! Real clients of others: `oras` and `wkg`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clawhold_tenancy::Digest;
use tempfile::TempDir;

use super::{CONFIG, polite};
use crate::support::{TestHost, probe};

/// A client's program, which `cargo xtask test` sets up; without it a test that needs it is left out, and says so.
fn client(name: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("tools/oci");
    let program = tools.join("bin").join(name);
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none(), "no {}: `cargo xtask test` sets it up", program.display());
    eprintln!("left out: what {name} does, because there is no {}; `cargo xtask test` sets it up", program.display());
    None
}

/// A client at work in a folder of its own, which is also where it keeps what it knows.
struct Client {
    program: PathBuf,
    folder: TempDir,
    registry: String,
}

impl Client {
    fn of(name: &str, test: &TestHost) -> Option<Self> {
        let registry = test.url.strip_prefix("http://").unwrap().to_owned();
        Some(Self { program: client(name)?, folder: tempfile::tempdir().unwrap(), registry })
    }

    /// What it says; `Err` if it fails. `REG` stands for the registry.
    fn run(&self, line: &str) -> Result<String, String> {
        let words = line.split_whitespace().map(|word| word.replace("REG", &self.registry));
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.folder.path());
        for (name, folder) in
            [("DOCKER_CONFIG", "docker"), ("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(name, self.folder.path().join(folder));
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        self.run(line).unwrap_or_else(|said| panic!("{line}: {said}"))
    }

    #[track_caller]
    fn refused(&self, line: &str, says: &str) {
        let said = self.run(line).expect_err(line);
        assert!(said.contains(says), "{line}: {said}");
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(file), bytes).unwrap();
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

#[test]
fn oras_pulls_and_copies_what_the_host_gives() {
    let test = TestHost::start();
    let Some(oras) = Client::of("oras", &test) else { return };
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    oras.refused("pull --plain-http REG/northwind/probe:1.0.0", "401");
    oras.refused("login --plain-http REG -u anybody -p clw_0123456789ab_wrong", "401");
    oras.done(&format!("login --plain-http REG -u anybody -p {admin}"));
    oras.done("pull --plain-http REG/northwind/probe:1.0.0 -o out");
    assert!(oras.read("out/probe-1.0.0.wasm") == probe());
    let digest = oras.done("resolve --plain-http REG/northwind/probe:1.0.0").trim().to_owned();
    oras.done(&format!("pull --plain-http REG/northwind/probe@{digest} -o by-digest"));
    assert!(oras.read("by-digest/probe-1.0.0.wasm") == probe());
    assert_eq!(oras.done("repo tags --plain-http REG/northwind/probe").trim(), "1.0.0");
    assert!(!oras.done("discover --plain-http REG/northwind/probe:1.0.0").contains("signature"));
    // A copy has the same manifest, and so all that is said in it.
    oras.done("copy --from-plain-http REG/northwind/probe:1.0.0 --to-oci-layout layout:1.0.0");
    assert_eq!(oras.done("resolve --oci-layout layout:1.0.0").trim(), digest);
    oras.refused("pull --plain-http REG/northwind/other:1.0.0", "not found");
    oras.refused("push --plain-http REG/northwind/probe:1.0.1 out/probe-1.0.0.wasm", "not for this token");
}

#[test]
fn oras_pushes_what_is_a_package() {
    let test = TestHost::start();
    let Some(oras) = Client::of("oras", &test) else { return };
    let publisher = test.publisher("guests");
    oras.done(&format!("login --plain-http REG -u ci -p {publisher}"));
    let wasm = polite("1.0.0");
    oras.write("polite.wasm", &wasm);
    oras.write("config.json", b"{}");
    let push =
        format!("push --plain-http REG/guests/polite:1.0.0 --config config.json:{CONFIG} polite.wasm:application/wasm");
    oras.refused(&push.replace(":1.0.0", ":1.0.1"), "push it to guests/polite:1.0.0");
    let said = oras.done(&push);
    assert!(said.contains("the host makes the manifest itself"), "it shows the warning: {said}");
    let shown = test.get("/v1/market/packages/guests/polite", &publisher).ok();
    assert_eq!(shown["digest"], Digest::of(&wasm).to_string());
    oras.done(&push);
    oras.done("pull --plain-http REG/guests/polite:1.0.0 -o out");
    assert!(oras.read("out/polite-1.0.0.wasm") == wasm);
}

#[test]
fn wkg_pulls_and_pushes() {
    let test = TestHost::start();
    let Some(wkg) = Client::of("wkg", &test) else { return };
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let publisher = test.publisher("guests");
    let pull =
        |token: &str| format!("oci pull --insecure REG -u anybody -p {token} REG/northwind/probe:1.0.0 -o probe.wasm");
    wkg.refused(&pull("clw_0123456789ab_wrong"), "Not authorized");
    wkg.done(&pull(&admin));
    assert!(wkg.read("probe.wasm") == probe());
    let wasm = polite("1.0.0");
    wkg.write("polite.wasm", &wasm);
    let push = |tag: &str| format!("oci push --insecure REG -u ci -p {publisher} REG/guests/polite:{tag} polite.wasm");
    wkg.refused(&push("1.0.1"), "push it to guests/polite:1.0.0");
    let said = wkg.done(&push("1.0.0"));
    let manifest = test.get("/v2/guests/polite/manifests/1.0.0", &publisher);
    let digest = manifest.headers["docker-content-digest"].to_str().unwrap();
    assert!(said.contains(&format!("digest: {digest}")), "the digest that the host gives: {said}");
    wkg.done(&push("1.0.0"));
}

/// As a package of the registry that its namespace is mapped to, instead of as an artifact.
#[test]
fn wkg_gets_the_newest_version_of_a_package() {
    let test = TestHost::start();
    let Some(wkg) = Client::of("wkg", &test) else { return };
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let config = format!(
        "namespace_registries = {{ northwind = \"REG\" }}\n[registry.\"REG\"]\ntype = \"oci\"\n\
         [registry.\"REG\".oci]\nprotocol = \"http\"\nauth = {{ username = \"any\", password = \"{admin}\" }}\n"
    );
    wkg.write("wkg.toml", config.replace("REG", &wkg.registry).as_bytes());
    wkg.done("get northwind:probe --config wkg.toml -o ./probe.wasm");
    assert!(wkg.read("probe.wasm") == probe());
    wkg.refused("get northwind:other --config wkg.toml -o ./other.wasm", "Package not found");
}

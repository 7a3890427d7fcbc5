//! The `clawhold` command as people type it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[cfg(target_os = "linux")]
mod cores;
mod faults;
mod import;
mod market;
mod planted;
mod quotas;
mod rotation;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const CLAWHOLD: &str = env!("CARGO_BIN_EXE_clawhold");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The code blocks behind a comment of this text, in order.
fn blocks(text: &str, mark: &str) -> Vec<String> {
    let mark = format!("<!-- {mark} -->\n```");
    text.split(&mark)
        .skip(1)
        .map(|rest| {
            let block = rest.split_once('\n').unwrap().1;
            block.split("```").next().unwrap().to_owned()
        })
        .collect()
}

/// A folder, and the environment that the README has its reader set up.
struct Desk {
    folder: TempDir,
    url: String,
    listen: String,
    /// Of PostgreSQL, instead of the embedded one.
    database: Option<String>,
}

impl Desk {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: format!("http://{free}"),
            listen: free.to_string(),
            database: None,
        }
    }

    fn command(&self, program: &str) -> Command {
        let bin = Path::new(CLAWHOLD).parent().unwrap();
        let path = std::env::join_paths(
            [bin.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("PATH", path.unwrap())
            .env("CLAWHOLD_REPO", root())
            .env("CLAWHOLD_URL", &self.url)
            .env("CLAWHOLD_LISTEN", &self.listen)
            .env("XDG_CONFIG_HOME", self.folder.path())
            .env_remove("CLAWHOLD_TOKEN");
        if let Some(database) = &self.database {
            command.env("CLAWHOLD_DATABASE_URL", database);
        }
        command
    }

    fn clawhold(&self, arguments: &[&str]) -> Output {
        self.command(CLAWHOLD).args(arguments).output().unwrap()
    }

    /// Types a script and waits until a host says that it listens.
    fn serve(&self, script: &str) -> Serving {
        let mut child = self
            .command("bash")
            .args(["-c", &format!("exec {script}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("Clawhold is listening on"));
        let mut serving = Serving(child);
        if said.is_none() {
            let mut why = String::new();
            serving.0.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("the host did not start: {why}");
        }
        // A host whose log nobody reads would stand still once the pipe is full.
        let mut log = serving.0.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        serving
    }
}

struct Serving(Child);

impl Serving {
    /// A process that has ended, for the moment between one host and the next.
    fn nothing() -> Self {
        Self(Command::new("true").spawn().unwrap())
    }

    /// Ends it as an operator would, and tells how that went.
    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _may_have_ended = self.0.kill();
        let _either_way = self.0.wait();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_tutorial_works_as_it_is_written() {
    let (readme, desk) = (readme(), Desk::new());
    let serving = desk.serve(blocks(&readme, "typed by a test: host")[0].trim());
    let typed: Vec<String> = ["author", "admin", "publish", "install"]
        .iter()
        .flat_map(|who| blocks(&readme, &format!("typed by a test: {who}")))
        .collect();
    assert_eq!(typed.len(), 13);
    let mut bash = desk.command("bash");
    // Nobody is there to be asked.
    bash.env("CLAWHOLD_KEY_PASSPHRASE", "correct horse battery");
    let done = bash.args(["-e", "-u", "-o", "pipefail", "-c", &typed.join("\n")]).output().unwrap();
    let said = text(&done);
    assert!(done.status.success(), "{said}");
    for part in [
        "tenant acme-corp created",
        "2 passed, 0 failed",
        "my-company is a publisher",
        "my-company/hello 0.1.0 published",
        "my-company/hello * is granted to tenant:acme-corp",
        "Hello, Ada, from test-tenant!",
        "Hello, Ada, from acme-corp!",
        "GET https://acme.my.salesforce.com/services/data/* with salesforce",
        "secret salesforce stored, version 1",
        "skill.invoke",
        "unbroken",
        "northwind/crm removed",
        "my-company/hello 0.2.0 can be published",
        "my-company/hello 0.2.0 published",
        "signed into hello/hello.wasm.sig",
        "my-company/hello 0.2.0 was published before, the very same",
        "my-company/hello 0.1.0 is yanked",
        "my-company/hello 0.1.0 is active and would be revoked",
        "What is new: it would be allowed to:\n  GET https://api.example.com/v1/*",
        "my-company/hello 0.2.0 installed for acme-corp",
        "my-company/hello 0.1.0 is installed again, pinned",
        "install.rollback",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!said.contains("a-token-of-your-crm"), "a secret was printed");
    assert!(serving.terminate().success(), "the host did not end in order");
}

#[test]
fn a_new_skill_passes_its_own_tests() {
    let desk = Desk::new();
    assert!(desk.clawhold(&["skill", "new", "hello", "--lang", "rust"]).status.success());
    let tested = desk.command("cargo").args(["test", "--manifest-path", "hello/Cargo.toml"]).output().unwrap();
    assert!(tested.status.success(), "{}", text(&tested));
    assert!(text(&tested).contains("2 passed"), "{}", text(&tested));
    let again = desk.clawhold(&["skill", "new", "hello"]);
    assert!(!again.status.success() && text(&again).contains("exists already"), "{}", text(&again));
}

#[test]
fn a_new_skill_on_wasi_is_built_tested_and_run_like_any_other() {
    let desk = Desk::new();
    assert!(desk.clawhold(&["skill", "new", "printer", "--wasi"]).status.success());
    let source = desk.folder.path().join("printer/src/lib.rs");
    let code = std::fs::read_to_string(&source).unwrap();
    let code = code.replacen("    Ok(format!", "    println!(\"printed for {name}\");\n    Ok(format!", 1);
    std::fs::write(&source, code).unwrap();
    let tested = desk.clawhold(&["skill", "test", "printer"]);
    assert!(text(&tested).contains("2 passed, 0 failed"), "{}", text(&tested));
    let ran = desk.clawhold(&["skill", "run", "printer", "printer.greet", r#"{"name": "Ada"}"#]);
    for part in ["Hello, Ada, from test-tenant!", "log: info printed for Ada"] {
        assert!(text(&ran).contains(part), "{part:?} is not in {}", text(&ran));
    }
    let seen = desk.clawhold(&["skill", "inspect", "printer"]);
    for part in ["wasi:cli/stdout@0.2", "wasi     clocks, randomness, no files"] {
        assert!(text(&seen).contains(part), "{part:?} is not in {}", text(&seen));
    }
    // The same source without the table is built pure: what it prints goes nowhere.
    let manifest = desk.folder.path().join("printer/skill.toml");
    let asked = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, asked.replace("\n[wasi]\n", "\n")).unwrap();
    let seen = desk.clawhold(&["skill", "inspect", "printer"]);
    assert!(seen.status.success() && !text(&seen).contains("wasi:"), "{}", text(&seen));
}

#[test]
fn the_readmes_configuration_is_one() {
    let yaml = &blocks(&readme(), "read by a test: clawhold.yaml")[0];
    let config = clawhold_cli::config::Config::parse(yaml).unwrap();
    assert_eq!(config.ceiling(), clawhold_tenancy::RunLimits::default_ceiling());
    let yaml = &blocks(&readme(), "read by a test: quotas.yaml")[0];
    let config = clawhold_cli::config::Config::parse(yaml).unwrap();
    assert_eq!(config.quotas().mistakes(), [""; 0]);
}

#[test]
fn the_page_on_quotas_has_every_dimension() {
    let page = std::fs::read_to_string(root().join("docs/quotas.md")).unwrap();
    let table = clawhold_cli::quotas_table();
    assert!(page.contains(&table), "docs/quotas.md lacks the table of dimensions; put this there:\n{table}");
}

#[test]
fn the_readmes_limits_are_the_hosts() {
    let table = clawhold_cli::limits_table();
    assert!(readme().contains(&table), "README.md lacks the table of limits; put this there:\n{table}");
}

#[test]
fn the_readmes_reasons_are_the_hosts() {
    let table = clawhold_cli::reasons_table();
    assert!(readme().contains(&table), "README.md lacks the table of reasons; put this there:\n{table}");
}

/// Runs a command that must fail with this code and say this.
#[track_caller]
fn fails(desk: &Desk, arguments: &[&str], code: i32, says: &[&str]) {
    let done = desk.clawhold(arguments);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
    for part in says {
        assert!(said.contains(part), "{arguments:?}: {said:?} does not say {part:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_mistake_on_the_command_line_says_what_to_do() {
    let desk = Desk::new();
    let write = |name: &str, text: &str| std::fs::write(desk.folder.path().join(name), text).unwrap();
    fails(&desk, &["tenant", "list"], 1, &["no token", "CLAWHOLD_TOKEN"]);
    fails(&desk, &["--token", "clw_x", "tenant", "list"], 1, &["no answer", "is the host running"]);
    fails(&desk, &["tenant", "create", "Acme"], 2, &["Acme", "a-z"]);
    fails(&desk, &["secret", "put", "acme-corp", "x"], 2, &["TENANT/NAME"]);
    fails(&desk, &["--token", "t", "secret", "put", "acme-corp/x"], 1, &["write `-`"]);
    fails(&desk, &["--token", "t", "invoke", "acme-corp", "a.b", "{"], 1, &["no JSON"]);
    fails(&desk, &["skill", "build", "."], 1, &["skill.toml", "clawhold skill new"]);
    fails(&desk, &["skill", "new", "Hello World"], 1, &["package name", "a-z"]);
    write("not.wasm", "hello");
    fails(&desk, &["skill", "inspect", "not.wasm"], 1, &["not WebAssembly", "skill build"]);
    let large = std::fs::File::create(desk.folder.path().join("large.wasm")).unwrap();
    large.set_len(200 << 20).unwrap();
    fails(&desk, &["--token", "t", "skill", "publish", "large.wasm"], 1, &["209715200 bytes", "67108864 are allowed"]);

    fails(&desk, &["serve"], 1, &["data_dir", "--dev"]);
    fails(&desk, &["serve", "--dev", "--listen", "0.0.0.0:0"], 1, &["loopback only"]);
    write("typo.yaml", "listen: 127.0.0.1:0\negres:\n  open: []\n");
    fails(&desk, &["serve", "--config", "typo.yaml"], 1, &["typo.yaml", "egres", "line 2"]);
    fails(&desk, &["serve", "--config", "absent.yaml"], 1, &["absent.yaml"]);

    std::fs::create_dir(desk.folder.path().join("clawhold")).unwrap();
    write("clawhold/profile.toml", "token = \"clw_x\"\n");
    let open = desk.command("chmod").args(["644", "clawhold/profile.toml"]).status().unwrap();
    assert!(open.success());
    fails(&desk, &["tenant", "list"], 1, &["profile.toml", "chmod 600"]);
}

impl Desk {
    /// Registers a publisher whose key is in `NAME.pem`, and gives its token.
    #[track_caller]
    fn publisher(&self, operator: &str, name: &str) -> String {
        let key = self.done(operator, &["skill", "keygen", &format!("{name}.pem"), "--without-passphrase"]);
        self.done(operator, &["publisher", "add", name, "--key", &key]);
        self.done(operator, &["token", "create", "--publisher", name, "--role", "publisher", "--name", "p"])
    }

    /// Runs a command that must succeed, with this token, and gives what it printed.
    #[track_caller]
    fn done(&self, token: &str, arguments: &[&str]) -> String {
        let done = self.clawhold(&[&["--token", token], arguments].concat());
        assert!(done.status.success(), "{arguments:?}: {}", text(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Every run of the tenant, as the API lists them, page by page.
    fn runs(&self, token: &str) -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/v1/tenants/acme-corp/runs?limit=200{after}", self.url);
            let mut answer = ureq::get(url).header("authorization", format!("Bearer {token}")).call().unwrap();
            let page: serde_json::Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
            found.extend(page["items"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return found };
            after = format!("&after={next}");
        }
    }
}

#[test]
fn a_refusal_has_an_exit_code_of_its_own() {
    let desk = Desk::new();
    let serving = desk.serve("clawhold serve --dev");
    let wrong = format!("clw_{}_{}", "0".repeat(32), "0".repeat(64));
    fails(&desk, &["--token", &wrong, "tenant", "list"], 3, &["No valid token", "Authorization: Bearer"]);
    let operator = std::fs::read_to_string(desk.folder.path().join(".clawhold/operator.token")).unwrap();
    fails(&desk, &["--token", operator.trim(), "invoke", "acme-corp", "a.b"], 3, &["skill.invoke", "admin or caller"]);
    let again = desk.clawhold(&["serve", "--dev", "--data", "other"]);
    assert!(text(&again).contains("is another host running there"), "{}", text(&again));
    assert!(serving.terminate().success());
}

#[test]
fn hostile_09_odd_tenant_ids_are_a_usage_error_on_the_command_line() {
    let desk = Desk::new();
    let long = "a".repeat(10 << 10);
    for odd in ["", "a", "../b", "a:b", "Acme", "_host", "\u{430}cme-corp", long.as_str()] {
        for command in [&["tenant", "show", odd][..], &["audit", "list", odd], &["invoke", odd, "a.b", "{}"]] {
            let said = desk.clawhold(command);
            assert_eq!(
                said.status.code(),
                Some(2),
                "{command:.40?}: {}",
                text(&said).chars().take(300).collect::<String>()
            );
        }
    }
}

//! Publishers, packages and installs at the terminal: what people type, and what they read.

use std::os::unix::fs::PermissionsExt as _;

use crate::faults::Prepared;
use crate::{CLAWHOLD, Desk, fails, text};

/// Columns of a terminal that nobody has made wider.
const COLUMNS: usize = 80;

impl Desk {
    /// What a command says with this passphrase, and its exit code.
    fn with_passphrase(&self, passphrase: &str, arguments: &[&str]) -> (String, i32) {
        let mut command = self.command(CLAWHOLD);
        let done = command.args(arguments).env("CLAWHOLD_KEY_PASSPHRASE", passphrase).output().unwrap();
        (text(&done), done.status.code().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Another version of the skill in `hello`, with this at the end of its manifest.
    fn version(&self, version: &str, more: &str) {
        let path = self.folder.path().join("hello/skill.toml");
        let was = std::fs::read_to_string(&path).unwrap();
        let line = |line: &str| {
            if line.starts_with("version = ") { format!("version = {version:?}\n") } else { format!("{line}\n") }
        };
        let is: String = was.lines().map(line).collect();
        std::fs::write(&path, is + more).unwrap();
    }
}

/// Each row has its cells where the headings have theirs, and all of it is seen without scrolling.
#[track_caller]
fn is_a_table(printed: &str, headings: &[&str]) {
    let mut lines = printed.lines();
    let head = lines.next().unwrap();
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), headings, "{printed}");
    let begins: Vec<usize> = headings.iter().map(|heading| head.find(heading).unwrap()).collect();
    let mut rows = 0;
    for row in lines {
        rows += 1;
        let row: Vec<char> = row.chars().collect();
        for at in &begins {
            assert!(row.len() > *at && row[*at] != ' ', "no cell begins at {at}:\n{printed}");
            assert!(*at == 0 || row[*at - 1] == ' ', "a cell is not where its heading is:\n{printed}");
        }
    }
    assert!(rows > 0, "{printed}");
    fits(printed);
}

#[track_caller]
fn fits(printed: &str) {
    for line in printed.lines() {
        assert!(line.chars().count() <= COLUMNS, "{} columns: {line}\n{printed}", line.chars().count());
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_opens_with_its_passphrase() {
    let desk = Desk::new();
    let (said, code) = desk.with_passphrase("short", &["skill", "keygen", "a.pem"]);
    assert!(code == 1 && said.contains("fewer than 8 characters"), "{said}");
    let file = desk.folder.path().join("a.pem");
    assert!(!file.exists(), "a key that was refused is not there");
    fails(&desk, &["skill", "keygen", "a.pem"], 1, &["nobody is there to ask", "CLAWHOLD_KEY_PASSPHRASE"]);

    let (said, code) = desk.with_passphrase("correct horse", &["skill", "keygen", "a.pem"]);
    let public = said.lines().next().unwrap();
    assert!(code == 0 && public.len() == 64 && public.chars().all(|c| c.is_ascii_hexdigit()), "{said}");
    assert!(said.contains("clawhold publisher add NAME --key"), "it says what is next: {said}");
    fits(&said);
    let made = std::fs::read_to_string(&file).unwrap();
    assert!(made.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{made}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (said, code) = desk.with_passphrase("correct horse", &["skill", "keygen", "a.pem"]);
    assert!(code == 1 && said.contains("is not written over"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);

    assert!(desk.clawhold(&["skill", "new", "hello"]).status.success());
    assert!(desk.clawhold(&["skill", "build", "hello"]).status.success());
    let sign = ["skill", "sign", "hello/hello.wasm", "--key", "a.pem"];
    fails(&desk, &sign, 1, &["nobody is there to ask", "CLAWHOLD_KEY_PASSPHRASE"]);
    fails(&desk, &sign[..3], 3, &["--key FILE", "CLAWHOLD_PUBLISHER_KEY"]);
    let (said, code) = desk.with_passphrase("another horse", &sign);
    assert!(code == 1 && said.contains("a.pem") && said.contains("does not open the key"), "{said}");
    let signature = desk.folder.path().join("hello/hello.wasm.sig");
    assert!(!signature.exists());
    assert_eq!(desk.with_passphrase("correct horse", &sign), ("signed into hello/hello.wasm.sig\n".to_owned(), 0));
    let envelope: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&signature).unwrap()).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.clawhold.package.v1+json");
    // As a build server has it: nothing of the key is in a file.
    let mut command = desk.command(CLAWHOLD);
    command.args(&sign[..3]).env("CLAWHOLD_PUBLISHER_KEY", &made).env("CLAWHOLD_KEY_PASSPHRASE", "correct horse");
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", text(&done));

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    fails(&desk, &sign, 1, &["others can read the key", "chmod 600 a.pem"]);
    desk.write("b.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    std::fs::set_permissions(desk.folder.path().join("b.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    fails(&desk, &["skill", "sign", "hello/hello.wasm", "--key", "b.pem"], 1, &["cannot read the key b.pem"]);
    fails(&desk, &["skill", "sign", "hello/hello.wasm", "--key", "c.pem"], 1, &["cannot read the key c.pem"]);
}

#[test]
fn a_package_goes_from_its_publisher_to_a_tenant_and_back_and_people_read_what_becomes_of_it() {
    let (prepared, _serving) = Prepared::at(Desk::new(), "clawhold serve --dev");
    let Prepared { desk, operator, admin } = &prepared;
    let token = ["token", "create", "--publisher", "my-company", "--role", "publisher", "--name", "laptop"];
    let author = desk.done(operator, &token);
    let refused = |token: &str, arguments: &[&str], says: &[&str]| {
        fails(desk, &[&["--token", token], arguments].concat(), 3, says);
    };
    let publish = ["skill", "publish", "hello", "--key", "my-company.pem"];
    let check = [&publish[..], &["--check"]].concat();
    let greet = ["invoke", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"];
    let rate = "[[http]]\nhost = \"api.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1/*\"]\n";

    // All that is wrong is said at once, each with what to do.
    desk.version("0.1.0-rc.1", "");
    refused(
        &author,
        &["skill", "publish", "hello", "--check"],
        &[
            "2 things are wrong with the package:\n1. the version 0.1.0-rc.1 is below 0.1.0",
            "\n   use 0.1.1 or higher\n2. the package is not signed",
            "\n   sign it with `clawhold skill sign`",
        ],
    );
    let stranger = desk.publisher(operator, "southwind");
    refused(&stranger, &publish, &["this one is my-company/hello", "use a token of my-company"]);
    desk.version("0.2.0", rate);
    assert!(desk.done(&author, &check).starts_with("my-company/hello 0.2.0 can be published"));
    let versions = desk.done(&author, &["market", "versions", "my-company/hello"]);
    is_a_table(&versions, &["VERSION", "STATUS", "SINCE"]);
    assert!(!versions.contains("0.2.0"), "a check publishes nothing: {versions}");
    refused(&author, &["skill", "publish", "hello", "--key", "southwind.pem"], &["has no key"]);
    assert!(desk.done(&author, &publish).starts_with("my-company/hello 0.2.0 published"));

    // What everybody sees of it.
    let listed = desk.done(admin, &["market", "list"]);
    is_a_table(&listed, &["PACKAGE", "VERSION", "STATUS", "ASKS", "INSTALLED"]);
    let cells: Vec<&str> =
        listed.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(cells, ["my-company/hello", "0.2.0", "active", "1 host", "0.1.0 (1 skill)"], "{listed}");
    is_a_table(&desk.done(&author, &["market", "grants", "my-company/hello"]), &["TO", "RANGE", "SINCE"]);
    is_a_table(
        &desk.done(admin, &["install", "list", "acme-corp"]),
        &["PACKAGE", "VERSION", "CHANNEL", "HELD", "UPDATED"],
    );
    is_a_table(&desk.done(operator, &["publisher", "list"]), &["PUBLISHER", "OWNER", "SINCE"]);
    desk.done(&author, &["skill", "keygen", "next.pem", "--without-passphrase"]);
    desk.done(&author, &["publisher", "rotate", "my-company", "--key", "my-company.pem", "--to", "next.pem"]);
    let shown = desk.done(&author, &["publisher", "show", "my-company"]);
    fits(&shown);
    assert_eq!(shown.matches("  key ").count(), 2, "{shown}");
    let shown = desk.done(admin, &["market", "show", "my-company/hello"]);
    fits(&shown);
    assert!(shown.contains("\n1 skill installed, of 0.1.0\n"), "{shown}");
    assert!(!desk.done(&author, &["market", "show", "my-company/hello"]).contains("installed"));
    desk.done(operator, &["tenant", "create", "globex"]);
    let globex = desk.done(operator, &["token", "create", "--tenant", "globex", "--role", "admin", "--name", "g"]);
    assert_eq!(desk.done(&globex, &["market", "list"]), "none");
    refused(&globex, &["market", "show", "my-company/hello"], &["Not found"]);
    refused(&globex, &["install", "plan", "globex", "my-company/hello"], &["Not found"]);

    // An upgrade shows what would be other, changes nothing before somebody has agreed, and is put back.
    let upgrade = ["install", "upgrade", "acme-corp", "my-company/hello"];
    let plan = desk.done(admin, &[&upgrade[..], &["--plan"]].concat());
    fits(&plan);
    for part in
        ["my-company/hello 0.2.0", "installed now: 0.1.0", "would be allowed to:\n  GET https://api.example.com/v1/*"]
    {
        assert!(plan.contains(part), "{part:?} is not in {plan}");
    }
    fails(desk, &[&["--token", admin], &upgrade[..]].concat(), 1, &["nobody is there to ask", "--yes"]);
    assert!(desk.done(admin, &["install", "list", "acme-corp"]).contains("0.1.0"));
    let yes = [&upgrade[..], &["--yes"]].concat();
    assert_eq!(desk.done(admin, &yes), "my-company/hello 0.2.0 follows 0.1.0");
    assert_eq!(desk.done(admin, &yes), "my-company/hello 0.2.0 is installed already");
    assert!(desk.done(admin, &greet).contains("Hello, Ada"));
    let back = ["install", "rollback", "acme-corp", "my-company/hello"];
    assert_eq!(desk.done(admin, &back), "my-company/hello 0.1.0 is installed again, pinned");
    let less = ["install", "add", "acme-corp", "my-company/hello@0.2.0", "--without-host", "api.example.org"];
    refused(admin, &less, &["asks for no host api.example.org", "api.example.com"]);
    let less = [&less[..4], &["--limit", "memory_mb=8", "--channel", "minor", "--yes"]].concat();
    desk.done(admin, &less);
    let installed = desk.done(admin, &["install", "list", "acme-corp"]);
    assert!(installed.contains("0.2.0") && installed.contains("minor"), "{installed}");

    // What is bad is stopped, and those who have it read why.
    let version = "my-company/hello@0.2.0";
    refused(&author, &["market", "yank", "my-company/hello", "--why", "x"], &["say which version"]);
    assert!(desk.done(&author, &["market", "yank", version, "--why", "too loud"]).ends_with("is yanked"));
    refused(admin, &upgrade, &["0.2.0 is installed", "the newest that may be installed is 0.1.0"]);
    assert!(desk.done(admin, &greet).contains("Hello, Ada"), "it runs where it is");
    refused(&author, &["market", "quarantine", version, "--why", "x"], &["ask the operator"]);
    let revoke = ["market", "revoke", version, "--why", "it greets the wrong person"];
    let said = desk.done(&author, &[&revoke[..], &["--dry-run"]].concat());
    assert_eq!(said, "my-company/hello 0.2.0 is yanked and would be revoked");
    desk.done(&author, &revoke);
    refused(admin, &greet, &["my-company/hello 0.2.0 is revoked: it greets the wrong person"]);
    refused(&author, &["market", "restore", version], &["ask the operator"]);
    desk.done(operator, &["market", "restore", version]);
    assert!(desk.done(admin, &greet).contains("Hello, Ada"));

    // What is taken back stays where it is installed.
    let ungrant = ["market", "ungrant", "my-company/hello", "tenant:acme-corp"];
    let said = desk.done(&author, &[&ungrant[..], &["--dry-run"]].concat());
    assert_eq!(said, "would take my-company/hello * back from tenant:acme-corp");
    desk.done(&author, &ungrant);
    refused(&author, &ungrant, &["Not found: grant"]);
    assert_eq!(desk.done(admin, &["market", "list"]), "none");
    assert!(desk.done(admin, &greet).contains("Hello, Ada"));

    // What is deleted is gone everywhere, for good.
    let delete = ["market", "delete", "my-company/hello", "--why", "nobody keeps it any more"];
    refused(&author, &delete, &["use one with the role operator"]);
    let said = desk.done(operator, &[&delete[..], &["--dry-run"]].concat());
    assert_eq!(
        said,
        "would revoke 2 versions of my-company/hello and delete it for good, saying: nobody keeps it any more"
    );
    assert_eq!(desk.done(operator, &delete), "my-company/hello is deleted; versions that are revoked: 2");
    refused(admin, &greet, &["is revoked: nobody keeps it any more"]);
    refused(&author, &["market", "show", "my-company/hello"], &["Not found"]);
    desk.version("0.3.0", "");
    refused(&author, &publish, &["its name is not given again", "choose another name"]);
}

#[test]
fn an_admin_makes_tokens_of_its_own_publishers_at_the_terminal() {
    let (prepared, _serving) = Prepared::at(Desk::new(), "clawhold serve --dev");
    let Prepared { desk, admin, .. } = &prepared;
    desk.done(admin, &["publisher", "add", "acme-internal", "--tenant", "acme-corp"]);
    let of = ["--tenant", "acme-corp", "--publisher", "acme-internal"];
    let make = |role: &'static str| [&["token", "create", "--name", "ci", "--role", role][..], &of].concat();
    fails(desk, &[&["--token", admin.as_str()][..], &make("admin")].concat(), 3, &["write --role publisher"]);
    let author = desk.done(admin, &make("publisher"));
    assert_eq!(desk.done(&author, &["publisher", "show", "acme-internal"]).lines().next(), Some("acme-internal"));
    let listed = desk.done(admin, &["publisher", "list", "--tenant", "acme-corp"]);
    is_a_table(&listed, &["PUBLISHER", "OWNER", "SINCE"]);
    let listed = desk.done(admin, &[&["token", "list"][..], &of].concat());
    let id = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    desk.done(admin, &[&["token", "revoke", &id][..], &of].concat());
    fails(desk, &["--token", &author, "publisher", "show", "acme-internal"], 3, &["revoked"]);
}

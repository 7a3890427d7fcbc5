//! Values that are planted as secrets of each kind, used and given away in every way, are found nowhere afterwards, and neither are the keys
//! that seal them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use clawhold_secret_store::local::MasterKey;
use clawhold_test_support::python::Served;
use serde_json::{Value, json};

use crate::{CLAWHOLD, Desk, root, text};

/// Put on requests as they are. Long enough to be looked for, and with letters that are written otherwise in URLs and base64.
const USED: &str = "pl4nted/used+1f9a2b7c?>>";
const PLAIN: &str = "pl4nted/plain+d41d8cd9=~";
/// Shown to the guest, which gives it away.
const READ: &str = "pl4nted&read>8c77d1e0~+";
/// A client's secret, its refresh token, what comes in place of that, and the token that it is for.
const CLIENT: &str = "pl4nted/client+7c4a8d09?";
const REFRESH: &str = "pl4nted/refresh+ca3762af";
const NEXT: &str = "pl4nted/next+6dcd4ce23d8";
const ACCESS: &str = "pl4nted/access+20eabe5d6=";
/// Two keys that sign, and the token of one.
const SIGNS: &str = "pl4nted/signs+5994471abb";
const SESSION: &str = "pl4nted/session+b5a2c96250==";
const PARTNER: &str = "pl4nted/partner+12dada8fff";
const PLANTED: [&str; 10] = [USED, PLAIN, READ, CLIENT, REFRESH, NEXT, ACCESS, SIGNS, SESSION, PARTNER];

fn token() -> Value {
    json!({ "access_token": ACCESS, "token_type": "Bearer", "refresh_token": NEXT, "expires_in": 3600 })
}

/// A server that sends back each request, and keeps it. Who asks it for a token is refused with all that was sent the first time.
struct Echo {
    origin: String,
    came: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&came);
        // Ends with the test's process.
        std::thread::spawn(move || {
            let mut refuses = true;
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    request.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&request).into_owned();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                let _client_may_be_gone = stream.read_exact(&mut body);
                request.extend(body);
                let (status, answer) = match (head.starts_with("POST /o/token/ "), refuses) {
                    (false, _) => (200, request.clone()),
                    (true, false) => (200, token().to_string().into_bytes()),
                    (true, true) => {
                        refuses = false;
                        let said = String::from_utf8_lossy(&request);
                        let refusal = json!({ "error": "invalid_request", "error_description": said });
                        (400, refusal.to_string().into_bytes())
                    }
                };
                seen.lock().unwrap().push(request);
                let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close", answer.len());
                let _client_may_be_gone = stream.write_all(&[head.as_bytes(), b"\r\n\r\n", &answer].concat());
            }
        });
        Self { origin, came }
    }

    fn came(&self) -> Vec<u8> {
        self.came.lock().unwrap().concat()
    }
}

fn percent(value: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    let written = |byte: &u8| if stays(*byte) { vec![*byte] } else { format!("%{byte:02X}").into_bytes() };
    value.iter().flat_map(written).collect()
}

/// The value in the forms in which it would be found.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let in_urls = percent(value, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let mut forms = vec![value.to_vec(), in_urls.clone(), percent(value, |_| false)];
    forms.extend([hex::encode(value).into_bytes(), hex::encode_upper(value).into_bytes()]);
    // As `Debug` has bytes.
    let numbers: Vec<String> = value[..12].iter().map(ToString::to_string).collect();
    forms.push(numbers.join(", ").into_bytes());
    // In base64 at each of the three places that it may have in a longer text, without the letters that its neighbours change; as a client
    // says who it is, it is written as in a URL first.
    for (before, value) in (0..3).flat_map(|before| [(before, value), (before, &in_urls)]) {
        let padded = ["_".repeat(before).as_bytes(), value].concat();
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)] {
            let skipped = (before * 4).div_ceil(3);
            forms.push(encoded.as_bytes()[skipped..encoded.len() - 1].to_vec());
        }
    }
    forms
}

/// Looks for any of these, and finds them where they are.
fn search<V: AsRef<[u8]>>(values: &[V]) -> AhoCorasick {
    let search = AhoCorasick::new(values.iter().flat_map(|value| forms(value.as_ref()))).unwrap();
    for value in values.iter().map(AsRef::as_ref) {
        let longer = [b"ab", value, b"c"].concat();
        assert!(search.is_match(format!("x{}", BASE64_STANDARD_NO_PAD.encode(&longer)).as_bytes()));
        assert!(search.is_match(&longer) && search.is_match(format!("{value:?}").as_bytes()));
    }
    search
}

#[track_caller]
fn is_clean(place: &str, bytes: &[u8], sought: &AhoCorasick) {
    if let Some(found) = sought.find(bytes) {
        let around = &bytes[found.start().saturating_sub(80)..(found.end() + 80).min(bytes.len())];
        panic!("{place} has it at {}: {}", found.start(), String::from_utf8_lossy(around));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Types commands, and keeps all that they print.
struct Typist<'d> {
    desk: &'d Desk,
    said: String,
}

impl Typist<'_> {
    /// Whether it went well, what it printed, and that with its errors.
    fn types(&mut self, token: &str, arguments: &[&str], input: Option<&str>) -> (bool, String, String) {
        let mut command = self.desk.command(CLAWHOLD);
        command.env("CLAWHOLD_TOKEN", token).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()));
        let mut child = command.spawn().unwrap();
        if let Some(input) = input {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        }
        let done = child.wait_with_output().unwrap();
        let all = text(&done);
        self.said += &all;
        (done.status.success(), String::from_utf8(done.stdout).unwrap().trim().to_owned(), all)
    }

    /// The same of what must go well.
    #[track_caller]
    fn done(&mut self, token: &str, arguments: &[&str], input: Option<&str>) -> String {
        let (done, printed, all) = self.types(token, arguments, input);
        assert!(done, "{arguments:?}: {all}");
        printed
    }

    /// Calls a skill, and gives what is said of that and the run's record.
    #[track_caller]
    fn runs(&mut self, admin: &str, tenant: &str, skill: &str, input: &Value) -> (String, Value) {
        let (_, _, all) = self.types(admin, &["--json", "invoke", tenant, skill, &input.to_string()], None);
        let list = self.done(admin, &["--json", "run", "list", tenant], None);
        let list: Value = serde_json::from_str(&list).unwrap();
        let run = list["items"][0]["id"].as_str().unwrap();
        assert!(all.contains(run), "it is the newest: {all}");
        let shown = self.done(admin, &["--json", "run", "show", tenant, run], None);
        (all, serde_json::from_str(&shown).unwrap())
    }

    /// A tenant with these secrets and packages at this origin; gives its admin's token.
    fn tenant(
        &mut self,
        operator: &str,
        tenant: &str,
        origin: &str,
        secrets: &[(&str, String)],
        packages: &[&str],
    ) -> String {
        self.done(operator, &["tenant", "create", tenant], None);
        let token = ["token", "create", "--name", "x", "--role", "admin", "--tenant", tenant];
        let admin = self.done(operator, &token, None);
        for (name, value) in secrets {
            self.done(&admin, &["secret", "put", &format!("{tenant}/{name}"), "-"], Some(value));
        }
        for package in packages {
            let (settings, reveal) = match *package {
                "northwind/probe" => (json!({ "origin": origin }), &["--reveal", "readable"][..]),
                _ => (json!({ "origin": origin, "identity": origin }), &[][..]),
            };
            let settings = settings.to_string();
            let add = ["install", "add", tenant, package, "--settings", &settings, "--yes"];
            self.done(&admin, &[&add, reveal].concat(), None);
        }
        admin
    }

    /// Sends each kind of credential in each place; the peer sends all of it back.
    fn sends_all(&mut self, admin: &str, tenant: &str, origin: &str) {
        let url = format!("{origin}/allowed/x?y=z");
        for (secret, place, redacted) in [
            ("plain", "bearer", Some("plain")),
            ("plain", "header", Some("plain")),
            ("plain", "query", Some("percent-encoded")),
            ("plain", "basic", Some("base64")),
            ("crm", "bearer", Some("plain")),
            ("crm", "header", Some("plain")),
            ("aws", "bearer", Some("plain")),
            ("partner", "bearer", None),
        ] {
            let ask = json!({ "url": url, "secret_name": secret, "place": place, "body": "{}" });
            let (said, record) = self.runs(admin, tenant, "signer.send", &ask);
            assert!(said.contains("200 "), "{secret} as {place}: {said}");
            let mark = format!("[redacted: {secret}]");
            assert_eq!(said.contains(&mark), redacted.is_some(), "{secret} as {place}: {said}");
            let flag = redacted.map(|form| json!(format!("{secret} in the output ({form})")));
            assert_eq!(record["leaks"], json!(flag.as_slice()), "{secret} as {place}");
            assert_eq!(record["egress"][0]["credential"], secret, "{record}");
        }
    }
}

/// The secrets of the guest that sends.
fn of_signer(origin: &str) -> Vec<(&'static str, String)> {
    let crm = json!({
        "token_url": format!("{origin}/o/token/"), "client_id": "c", "client_secret": CLIENT, "refresh_token": REFRESH,
    });
    let aws = json!({
        "access_key_id": "AKIAEXAMPLE", "secret_access_key": SIGNS, "region": "eu-central-1", "session_token": SESSION,
    });
    let partner = json!({ "key_id": "acme-1", "key": PARTNER });
    [("plain", json!(PLAIN)), ("crm", crm), ("aws", aws), ("partner", partner)]
        .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .to_vec()
}

/// Where the guest puts the value, and where the guard says that it was.
const PLACES: [(&str, &str); 8] = [
    ("log", "log"),
    ("two lines", "log"),
    ("error", "error"),
    ("panic", "log"),
    ("audit", "audit"),
    ("request", "request"),
    ("path", "request"),
    ("output", "output"),
];

#[test]
fn hostile_20_a_planted_value_is_in_no_file_no_log_and_no_answer() {
    let echo = Echo::start();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [folder.path().to_str().unwrap(), &token().to_string()];
    let over_h2 = Served::start(env!("CARGO_TARGET_TMPDIR"), "h2_server.py", &arguments);
    let desk = Desk::new();
    let roots =
        over_h2.as_ref().map(|server| format!("CLAWHOLD_EGRESS_ROOTS={}", server.said["roots"].as_str().unwrap()));
    let open = "env CLAWHOLD_LOG=trace CLAWHOLD_EGRESS_OPEN=127.0.0.1/32";
    let mut serving =
        desk.serve(&format!("{open} {} clawhold serve --dev 2> log.txt", roots.as_deref().unwrap_or_default()));
    let data = desk.folder.path().join(".clawhold");
    let operator = std::fs::read_to_string(data.join("operator.token")).unwrap();
    let operator = operator.trim();
    let mut typist = Typist { desk: &desk, said: String::new() };
    let author = desk.publisher(operator, "northwind");
    for guest in ["probe", "signer"] {
        let path = root().join("tests/guests").join(guest);
        typist.done(&author, &["skill", "publish", path.to_str().unwrap(), "--key", "northwind.pem"], None);
        typist.done(&author, &["market", "grant", &format!("northwind/{guest}"), "tier:standard"], None);
    }
    let mut secrets = of_signer(&echo.origin);
    let values = [("token", "another value"), ("token", USED), ("readable", READ)];
    secrets.extend(values.map(|(name, value)| (name, value.to_owned())));
    let packages = ["northwind/probe", "northwind/signer"];
    let admin = typist.tenant(operator, "acme-corp", &echo.origin, &secrets, &packages);

    let url = format!("{}/allowed/x", echo.origin);
    let (said, record) = typist.runs(&admin, "acme-corp", "probe.fetch", &json!({ "url": url, "with_token": true }));
    assert!(said.contains("[redacted: token]"), "the peer sent it back: {said}");
    assert_eq!(record["leaks"], json!(["token in the output (plain)"]));
    let came = echo.came().len();
    let read = search(&[READ]);
    for (place, flagged) in PLACES {
        for (form, written) in [("plain", "plain"), ("hex", "hex"), ("percent", "percent-encoded")] {
            let ask = json!({ "name": "readable", "form": form, "place": place, "url": url });
            let (said, record) = typist.runs(&admin, "acme-corp", "probe.leak", &ask);
            let what = format!("{form} in {place}");
            // In a path a URL does not take every letter as it is.
            let written = if (place, form) == ("path", "plain") { "percent-encoded" } else { written };
            let flag = format!("readable in the {flagged} ({written})");
            assert!(record["leaks"].as_array().unwrap().contains(&json!(flag)), "{what}: no {flag:?} in {record}");
            let told = match place {
                "audit" => typist.done(&admin, &["--json", "audit", "list", "acme-corp"], None),
                "output" => said.clone(),
                _ => record.to_string(),
            };
            // What is not sent has nothing in it to be taken out.
            assert!(place == "request" || told.contains("[redacted: readable]"), "{what}: {told}");
            for told in [&said, &told, &record.to_string()] {
                is_clean(&what, told.as_bytes(), &read);
            }
        }
    }
    assert_eq!(echo.came().len(), came, "what holds a value that does not belong there is not sent");

    // The token server says why not, with all that it was sent.
    let ask = json!({ "url": url, "secret_name": "crm" });
    let (said, _) = typist.runs(&admin, "acme-corp", "signer.send", &ask);
    assert!(said.contains("gives no access token") && said.contains("invalid_request"), "{said}");
    typist.sends_all(&admin, "acme-corp", &echo.origin);
    let came = echo.came();
    for value in [USED, PLAIN, CLIENT, REFRESH, ACCESS, SESSION] {
        assert!(search(&[value]).is_match(&came), "{value} was not sent");
    }
    is_clean("what peers got", &came, &search(&[READ, SIGNS, PARTNER]));
    if let Some(server) = &over_h2 {
        let admin =
            typist.tenant(operator, "globex", server.origin(), &of_signer(server.origin()), &["northwind/signer"]);
        typist.sends_all(&admin, "globex", server.origin());
    }
    for arguments in [
        &["secret", "rollback", "acme-corp/token"][..],
        &["secret", "rollback", "acme-corp/token"],
        &["secret", "versions", "acme-corp/token"],
        &["secret", "versions", "acme-corp/crm"],
        &["secret", "list", "acme-corp"],
        &["keys", "rotate", "--tenant", "acme-corp"],
        &["run", "list", "acme-corp"],
        &["audit", "list", "acme-corp"],
        &["audit", "verify", "acme-corp"],
        &["usage", "acme-corp"],
        &["--json", "secret", "list", "acme-corp"],
        &["--json", "run", "list", "acme-corp"],
        &["--json", "audit", "list", "acme-corp"],
    ] {
        typist.done(&admin, arguments, None);
    }
    typist.done(operator, &["keys", "rotate", "--add-master"], None);
    // What a host leaves behind that had no time to tidy up: the write-ahead log is still there.
    serving.0.kill().unwrap();
    serving.0.wait().unwrap();
    let log = std::fs::read(desk.folder.path().join("log.txt")).unwrap();
    let traces = String::from_utf8_lossy(&log);
    for target in ["hyper_util::", "h2::"].into_iter().filter(|target| over_h2.is_some() || *target != "h2::") {
        let is_of = |line: &str| line.contains("TRACE") && line.contains(&format!(" {target}"));
        assert!(traces.lines().any(is_of), "the log has nothing of {target}");
    }
    let left = files(desk.folder.path());
    for name in ["clawhold.db", "clawhold.db-wal", "log.txt", "master.key"] {
        assert!(left.iter().any(|path| path.ends_with(name)), "{name} is not in {left:?}");
    }
    let key_file = std::fs::read(data.join("master.key")).unwrap();
    assert_eq!(key_file.len(), 2 * 32, "a key was added");
    let master = MasterKey::open_or_create(&data).unwrap();
    // Those that the file has, and some that follow from them.
    let mut keys: Vec<Vec<u8>> = key_file.chunks(32).map(<[u8]>::to_vec).collect();
    keys.extend(
        ["wrap acme-corp", "wrap _host", "artifacts", "audit-head", "market-index", "market-rows"]
            .map(|label| master.derive(label).to_vec()),
    );
    let (planted, keys) = (search(&PLANTED), search(&keys));
    // Whoever has a token may read and use what belongs to it: it is shown once, to whoever made it.
    let tokens = search(&[operator, &admin, &author].map(|token| token.rsplit('_').next().unwrap()));
    is_clean("what was printed", typist.said.as_bytes(), &planted);
    is_clean("what was printed", typist.said.as_bytes(), &keys);
    for path in &left {
        let (place, bytes) = (path.display().to_string(), std::fs::read(path).unwrap());
        is_clean(&place, &bytes, &planted);
        if path.ends_with("master.key") {
            assert!(keys.is_match(&bytes), "{place} is where they are");
        } else {
            is_clean(&place, &bytes, &keys);
        }
        if !path.ends_with("operator.token") {
            is_clean(&place, &bytes, &tokens);
        }
    }
}

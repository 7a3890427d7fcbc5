//! A host of its own for each test: own folder, own database, own port.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clawhold_capabilities::Transport;
use clawhold_cli::config::{Config, SignaturePolicy};
use clawhold_cli::{build_skill, serve};
use clawhold_runtime::Host;
use clawhold_test_support::postgres::Database;
use clawhold_test_support::python::{Served, interpreter};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ureq::Agent;

use crate::conforms::Described;

/// Each of these functions as a test on either database.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $name() {
                    super::$name(&$crate::support::TestHost::start());
                }
            )*
        }
        mod on_postgres {
            $(
                #[test]
                fn $name() {
                    super::$name(&$crate::support::TestHost::on_postgres());
                }
            )*
        }
    };
}

pub(crate) use on_each_database;

/// A running host.
pub(crate) struct TestHost {
    pub(crate) api: Api,
    pub(crate) host: Arc<Host>,
    pub(crate) runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    folder: Arc<TempDir>,
    /// Its database, if that is PostgreSQL.
    pub(crate) postgres: Option<Database>,
}

/// A host's API, as its operator sees it.
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) operator: String,
    agent: Agent,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body, of an answer that must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status < 300, "{} {}", self.status, self.body);
        self.body
    }

    /// The name of the problem.
    pub(crate) fn problem(&self) -> String {
        self.body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/").to_owned()
    }
}

impl TestHost {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// A host with this configuration, on loopback, which skills may reach.
    pub(crate) fn with(yaml: &str) -> Self {
        Self::over(yaml, None)
    }

    /// The same over another network than the real one.
    pub(crate) fn over(yaml: &str, transport: Option<Arc<dyn Transport>>) -> Self {
        Self::within(Arc::new(tempfile::tempdir().unwrap()), yaml, None, transport)
    }

    /// A host on a PostgreSQL database of its own.
    pub(crate) fn on_postgres() -> Self {
        Self::on_postgres_with("")
    }

    pub(crate) fn on_postgres_with(yaml: &str) -> Self {
        let database = Database::new(|owner| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(clawhold_store::Store::migrate(owner))?)
        });
        let database = database.unwrap();
        let mut test = Self::with(&format!("{yaml}database_url: {}\n", database.app));
        test.postgres = Some(database);
        test
    }

    /// Stops, and starts again in the same folder with another configuration.
    pub(crate) fn restarted(mut self, yaml: &str) -> Self {
        let (folder, operator) = (Arc::clone(&self.folder), self.operator.clone());
        let served = self.begin_stop();
        self.runtime.block_on(served).unwrap();
        drop(self);
        Self::within(folder, yaml, Some(operator), None)
    }

    /// Another host on the same database, under the same master key.
    pub(crate) fn beside(other: &Self, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(other.folder().join("master.key"), folder.path().join("master.key")).unwrap();
        Self::within(Arc::new(folder), yaml, Some(other.operator.clone()), None)
    }

    fn within(
        folder: Arc<TempDir>,
        yaml: &str,
        operator: Option<String>,
        transport: Option<Arc<dyn Transport>>,
    ) -> Self {
        let mut config = Config::parse(yaml).unwrap();
        config.run_slots.get_or_insert(8);
        // Most tests are not about who signed what.
        if !yaml.contains("market:") {
            config.market.signatures = SignaturePolicy::Optional;
        }
        config.egress.open.push("127.0.0.1/32".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (host, operator, url, served) = runtime.block_on(async {
            let host = serve::host(folder.path(), &config, transport).await.unwrap();
            let first = host.first_operator_token(|_| Ok(())).await.unwrap();
            let first = first.map(|made| made.token.expose_secret().to_owned());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let served = tokio::spawn(clawhold_api::serve(listener, Arc::clone(&host), async move {
                let _either_way = stopped.await;
            }));
            (host, operator.or(first).unwrap(), url, served)
        });
        Self {
            api: Api::new(url, operator),
            host,
            runtime,
            stop: Some(stop),
            served: Some(served),
            folder,
            postgres: None,
        }
    }

    /// The database's address, for somebody for whom no rule holds.
    pub(crate) fn database(&self) -> String {
        let file = || format!("sqlite:{}", self.folder().join("clawhold.db").display());
        self.postgres.as_ref().map_or_else(file, |database| database.superuser.clone())
    }

    /// The database's address as hosts have it.
    pub(crate) fn store(&self) -> String {
        self.postgres.as_ref().map_or_else(|| self.database(), |database| database.app.clone())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the host's own chain ends.
    pub(crate) fn host_chain(&self) -> i64 {
        self.runtime.block_on(self.host.host_audit_head()).unwrap().seq
    }

    /// Where the host's chain ends, and acme-corp's, if there is one.
    pub(crate) fn chains(&self) -> (i64, i64) {
        use clawhold_tenancy::permit::ReadAudit;
        use clawhold_tenancy::{Context, Role, Scope, TenantId};
        let tenant: TenantId = "acme-corp".parse().unwrap();
        let cx = Context::of_host("test", Scope::Tenant(tenant.clone()), Role::Auditor);
        let permit = cx.permit::<ReadAudit>(&tenant).unwrap();
        (self.host_chain(), self.runtime.block_on(self.host.audit_head(&permit)).unwrap().seq)
    }

    /// Asks the host to stop, as a signal would.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<()> {
        drop(self.stop.take());
        self.served.take().unwrap()
    }
}

impl std::ops::Deref for TestHost {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Api {
    pub(crate) fn new(url: String, operator: String) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A host that refuses without reading the body closes the connection: none is used twice.
            .max_idle_connections(0)
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        Self { url, operator, agent: config.new_agent() }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, body: Option<&[u8]>) -> Answer {
        self.ask_with(&[], method, path, token, body)
    }

    pub(crate) fn ask_with(
        &self,
        fields: &[(&str, &str)],
        method: &str,
        path: &str,
        token: &str,
        body: Option<&[u8]>,
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = self.sent(request, body);
        // The OCI registry is of another contract, which its own clients check.
        if !path.starts_with("/v2/") {
            self.described().check(method, path, &answer);
        }
        // Nor about what is granted to whom.
        if (method, path, answer.status) == ("POST", "/v1/market/packages", 201) {
            self.grant(answer.body["name"].as_str().unwrap(), "tier:standard", "*").ok();
        }
        answer
    }

    /// The same where what is published is to be granted to nobody.
    pub(crate) fn ask_ungranted(&self, method: &str, path: &str, token: &str, body: Option<&[u8]>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header("authorization", format!("Bearer {token}"));
        self.sent(request, body)
    }

    pub(crate) fn grant(&self, package: &str, to: &str, range: &str) -> Answer {
        let path = format!("/v1/market/packages/{package}/grants/{to}");
        self.send("PUT", &path, &self.operator, &json!({ "range": range }))
    }

    /// What the API says of itself: the same in every host, so that one of them is asked, once.
    fn described(&self) -> &'static Described {
        static DESCRIBED: OnceLock<Described> = OnceLock::new();
        DESCRIBED.get_or_init(|| {
            let request = http::Request::builder().uri(format!("{}/v1/openapi.json", self.url));
            Described::by(self.sent(request, None).ok())
        })
    }

    fn sent(&self, request: http::request::Builder, body: Option<&[u8]>) -> Answer {
        let sent = match body {
            Some(body) => self.agent.run(request.body(body.to_vec()).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answer = sent.unwrap();
        let text = answer.body_mut().with_config().limit(32 << 20).read_to_string().unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, token, None)
    }

    pub(crate) fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        self.ask(method, path, token, Some(body.to_string().as_bytes()))
    }

    /// A tenant, with an admin's token.
    pub(crate) fn tenant(&self, id: &str) -> String {
        self.send("POST", "/v1/tenants", &self.operator, &json!({ "id": id })).ok();
        self.token(id, "admin")
    }

    pub(crate) fn token(&self, tenant: &str, role: &str) -> String {
        let path = format!("/v1/tenants/{tenant}/tokens");
        let made = self.send("POST", &path, &self.operator, &json!({ "name": role, "role": role })).ok();
        made["token"].as_str().unwrap().to_owned()
    }

    /// A token of a publisher, which is registered if it is not yet.
    pub(crate) fn publisher(&self, name: &str) -> String {
        let there = self.send("POST", "/v1/market/publishers", &self.operator, &json!({ "name": name }));
        assert!(matches!(there.status, 201 | 409), "{} {}", there.status, there.body);
        let body = json!({ "name": "ci", "role": "publisher", "publisher": name });
        let made = self.send("POST", "/v1/tokens", &self.operator, &body).ok();
        made["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn publish(&self, wasm: &[u8]) -> Value {
        self.ask("POST", "/v1/market/packages", &self.publisher("northwind"), Some(wasm)).ok()
    }

    /// Installs the latest version of a package, accepting what it asks for.
    pub(crate) fn install(&self, tenant: &str, admin: &str, package: &str, settings: &Value, reveal: &[&str]) {
        let path = format!("/v1/tenants/{tenant}/installs/{package}");
        let ask = json!({ "settings": settings, "reveal": reveal });
        let plan = self.send("POST", &format!("{path}/plan"), admin, &ask).ok();
        let yes = json!({
            "version": plan["version"], "settings": settings, "reveal": reveal, "consent": plan["consent"],
        });
        self.send("PUT", &path, admin, &yes).ok();
    }

    /// Publishes the probe and installs it for a new tenant; gives the admin's token.
    pub(crate) fn with_probe(&self, tenant: &str, origin: &str) -> String {
        let admin = self.tenant(tenant);
        self.publish(probe());
        self.install(tenant, &admin, "northwind/probe", &json!({ "origin": origin }), &[]);
        admin
    }

    pub(crate) fn invoke(&self, tenant: &str, token: &str, skill: &str, input: &Value) -> Answer {
        self.send("POST", &format!("/v1/tenants/{tenant}/skills/{skill}/invoke"), token, input)
    }

    /// The tenant's audit entries, oldest first.
    pub(crate) fn audit(&self, tenant: &str, token: &str) -> Vec<Value> {
        let mut items = self.get(&format!("/v1/tenants/{tenant}/audit?limit=200"), token).ok()["items"].take();
        let mut items = std::mem::take(items.as_array_mut().unwrap());
        items.reverse();
        items
    }

    /// The record of the run that an answer tells of.
    pub(crate) fn run_of(&self, tenant: &str, token: &str, answer: &Answer) -> Value {
        let id = answer.headers["clawhold-run"].to_str().unwrap();
        self.get(&format!("/v1/tenants/{tenant}/runs/{id}"), token).ok()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            let _ended = self.runtime.block_on(served);
        }
    }
}

/// The guest that misbehaves on request.
pub(crate) fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| build(&format!("tests/guests/{}", "probe")))
}

/// The example skill for the CRM.
pub(crate) fn crm() -> &'static [u8] {
    static CRM: OnceLock<Vec<u8>> = OnceLock::new();
    CRM.get_or_init(|| build("skills/northwind/crm"))
}

/// A package, built from a folder of the repository.
pub(crate) fn build(folder: &str) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new().unwrap();
    build_skill(&root().join(folder), out.path()).unwrap()
}

/// Why a folder of the repository cannot be built into a package.
pub(crate) fn build_failed(folder: &str) -> String {
    let out = tempfile::NamedTempFile::new().unwrap();
    format!("{:#}", build_skill(&root().join(folder), out.path()).unwrap_err())
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Holds a text against a file of `golden`, or writes it there when `CLAWHOLD_UPDATE_GOLDEN` is set.
#[track_caller]
pub(crate) fn golden(file: &str, text: &str) {
    let path = root().join("tests/suites/golden").join(file);
    if std::env::var_os("CLAWHOLD_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{file} changed; if that is meant, run with CLAWHOLD_UPDATE_GOLDEN=1 and read the diff");
}

/// The interpreter with what tests in Python need; without it that part of a test is left out, which is said, or fails under CI.
#[track_caller]
pub(crate) fn python() -> Option<PathBuf> {
    interpreter(env!("CARGO_TARGET_TMPDIR"))
}

/// A server of `tests/python`; the same holds for it.
#[track_caller]
pub(crate) fn served(script: &str, arguments: &[&str]) -> Option<Served> {
    Served::start(env!("CARGO_TARGET_TMPDIR"), script, arguments)
}

/// A server on loopback that answers each request with what `answer` makes of its head, and counts them.
pub(crate) struct Peer {
    pub(crate) origin: String,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Peer {
    pub(crate) fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    loop {
                        let mut head = Vec::new();
                        let mut byte = [0];
                        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                            head.push(byte[0]);
                        }
                        if head.is_empty() {
                            return;
                        }
                        let head = String::from_utf8_lossy(&head).into_owned();
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                        let _client_may_be_gone = stream.read_exact(&mut body);
                        seen.lock().unwrap().push(head.clone());
                        let answer = answer(&head);
                        let _client_may_be_gone = stream.write_all(&answer);
                        let says = |words: &[u8]| answer.windows(words.len()).any(|part| part == words);
                        // Without a length its end is the end of the connection.
                        if says(b"connection: close") || !says(b"content-length:") {
                            return;
                        }
                    }
                });
            }
        });
        Self { origin, heads }
    }

    /// The heads of the requests that came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// An HTTP answer with this body.
pub(crate) fn answer_with(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Waits until it is so, half a minute at most, and tells whether it is: what is compiled beside other tests takes its time.
pub(crate) fn becomes(mut so: impl FnMut() -> bool) -> bool {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if so() {
            return true;
        }
        if std::time::Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

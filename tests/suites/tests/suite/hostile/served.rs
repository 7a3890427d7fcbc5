//! A host in a process of its own, so that its memory is nobody else's: tests run beside each other in one process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs, thread};

use async_trait::async_trait;
use clawhold_capabilities::{Bounds, Incoming, Outgoing, Transport, TransportError};
use clawhold_test_support::guest::Guest;
use serde_json::{Value, json};

use crate::support::{Api, TestHost};

/// Tells this test binary that it is to be such a process.
const ASKED: &str = "CLAWHOLD_TEST_SERVE";
/// What stands before the line that tells where it listens.
const MARK: &str = "host: ";

/// One slot, so that the next run is in the same one; and its ceilings are those of guests that say nothing.
const ONE_SLOT: &str = "run_slots: 1\n";

/// A host that one test has for itself.
pub(super) struct Served {
    pub(super) api: Api,
    process: Child,
}

/// Hosts that no test uses now. One that a failed test used is not among them.
static IDLE: Mutex<Vec<Served>> = Mutex::new(Vec::new());

impl Served {
    /// A host with one slot: one that other tests have used and left whole, or a new one.
    pub(super) fn borrow() -> Borrowed {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Borrowed(Some(idle.unwrap_or_else(Self::start)))
    }

    fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "hostile::served::the_process_of_a_host", "--ignored", "--nocapture"])
            .env(ASKED, "yes")
            // A backtrace keeps what it has read of this binary's symbols: 84 MiB.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        let told: Value = serde_json::from_str(&told.expect("the host's process ended")).unwrap();
        let said = |key: &str| told[key].as_str().unwrap().to_owned();
        let served = Self { api: Api::new(said("url"), said("operator")), process };
        served.warm_up();
        served
    }

    /// Allocators and caches take their first memory, and each of the slot's memories has had a user.
    fn warm_up(&self) {
        self.api.publish_guest("clean");
        self.api.publish_guest("unquote");
        let admin = self.api.tenant("warm-up");
        self.api.install_guest("warm-up", &admin, "clean");
        self.api.install_guest("warm-up", &admin, "unquote");
        let text = json!("x".repeat(900_000));
        for _ in 0..8 {
            self.api.invoke("warm-up", &admin, "guest.clean", &json!({})).ok();
            self.api.invoke("warm-up", &admin, "guest.unquote", &text);
        }
    }

    /// Bytes of memory that the process has now.
    pub(super) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Forgets how much memory the process had at the most until now.
    pub(super) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    /// Bytes of memory that the process had at the most since then.
    pub(super) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _status = self.process.wait();
    }
}

/// A host that goes back to the others at the end, unless the test failed.
pub(super) struct Borrowed(Option<Served>);

impl std::ops::Deref for Borrowed {
    type Target = Served;

    fn deref(&self) -> &Served {
        self.0.as_ref().expect("is given back only at the end")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(served) = self.0.take()
            && !thread::panicking()
        {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(served);
        }
    }
}

impl Api {
    /// Publishes a guest. The very same may be published again.
    pub(super) fn publish_guest(&self, name: &str) -> Arc<Guest> {
        let guest = Guest::named(name).unwrap();
        let publisher = self.publisher("guests");
        self.ask("POST", "/v1/market/packages", &publisher, Some(&guest.wasm)).ok();
        guest
    }

    /// Installs a guest that was published.
    pub(super) fn install_guest(&self, tenant: &str, admin: &str, name: &str) {
        let settings = json!({ "origin": self.url });
        self.install(tenant, admin, &format!("guests/{name}"), &settings, &[]);
    }
}

/// A network that answers at once, never, or with a panic in the host, as the path says.
struct Scripted;

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: Outgoing, _bounds: Bounds) -> Result<Incoming, TransportError> {
        match request.url.path() {
            "/panic" => panic!("a host function panics, as the test wants"),
            "/never" => std::future::pending().await,
            _ => {}
        }
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
        Ok(Incoming { status: 200, headers, body: bytes::Bytes::from_static(b"hello"), wire_bytes: 5 })
    }
}

/// No test: the process that [`Served::start`] starts. Ends when whoever started it is gone.
#[test]
#[ignore = "is what other tests start in a process of its own"]
fn the_process_of_a_host() {
    if env::var_os(ASKED).is_none() {
        return;
    }
    let test = TestHost::over(ONE_SLOT, Some(Arc::new(Scripted)));
    println!("\n{MARK}{}", json!({ "url": test.url, "operator": test.operator }));
    let _nothing = std::io::stdin().read(&mut [0]);
}

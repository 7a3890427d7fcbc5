//! P11, P12, P13: what a request of a skill costs, and what the leak guard and a secret do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use clawhold_capabilities::Leaks;
use clawhold_runtime::{Details, StoreKeys, StoreRows};
use clawhold_secret_store::keys::DataKeys;
use clawhold_secret_store::local::{LocalSecrets, MasterKey};
use clawhold_secret_store::{CachedSecrets, Change, SecretStore as _, SecretValue};
use clawhold_store::Store;
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Role, Scope, SecretName, SkillName, TenantId};
use clawhold_test_support::guest::Guest;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Figure;
use crate::setup::{PLENTY, context, host, in_memory, publish, tenant_with_origin};

const ROUNDS: usize = 7;
/// Runs of a round, and requests of one run more than of the other.
const RUNS: u32 = 200;
const MORE: u32 = 30;

/// A skill that asks a peer so many times, for `x` or for `close`, behind which the peer hangs up.
fn asking(peer: SocketAddr, path: &str, times: u32) -> anyhow::Result<Vec<u8>> {
    let url = format!("http://{peer}/{path}");
    let text = format!(
        ";;! [[http]]\n;;! host_setting = \"origin\"\n;;! methods = [\"GET\"]\n;;! paths = [\"/*\"]\n\
         (import \"clawhold:skill/http@0.1.0\" \"send\" (func $send (param i32 i32)))\n\
         (data (i32.const 3072) \"{url}\")\n\
         (data (i32.const 2052) \"\\00\\0c\\00\\00\\{:02x}\\00\\00\\00\")\n\
         (func $run (result i32) (local $i i32)\n\
         (loop $again\n\
           (call $send (i32.const 2048) (i32.const 600))\n\
           (local.set $i (i32.add (local.get $i) (i32.const 1)))\n\
           (br_if $again (i32.lt_u (local.get $i) (i32.const {times}))))\n\
         (call $yes))",
        url.len()
    );
    Ok(Guest::of(&format!("{path}{times}"), &text)?.wasm)
}

async fn peer() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _no_delay = stream.set_nodelay(true);
            let service = hyper::service::service_fn(|asked: Request<hyper::body::Incoming>| async move {
                let mut answer = Response::new(Full::new(Bytes::from_static(b"hello")));
                if asked.uri().path() == "/close" {
                    answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(at)
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

/// Microseconds of a request by hyper alone, on a connection that is kept.
async fn plain(mut sender: Sender, at: SocketAddr) -> anyhow::Result<(Sender, f64)> {
    let began = Instant::now();
    for _ in 0..RUNS * MORE {
        let asked = Request::get("/x").header("host", at.to_string()).body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let answer = sender.send_request(asked).await?;
        ensure!(answer.into_body().collect().await?.to_bytes() == "hello");
    }
    Ok((sender, began.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS * MORE)))
}

pub(crate) fn request() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // A peer is somebody else: on one worker with its client, neither would ever have to be woken up.
        let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let at = elsewhere.spawn(peer()).await??;
        let folder = in_memory()?;
        let yaml = format!("egress:\n  open: [127.0.0.1/32]\ntenant_quotas:\n  default:\n{PLENTY}");
        let host = host(folder.path(), &yaml).await?;
        let mut packages = Vec::new();
        for (path, times) in [("x", 1), ("x", 1 + MORE), ("close", 1), ("close", 1 + MORE)] {
            publish(&host, "guests", asking(at, path, times)?).await?;
            packages.push(format!("guests/{path}{times}"));
        }
        let tenant = "acme-corp".parse()?;
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        tenant_with_origin(&host, &tenant, &names, &format!("http://{at}")).await?;
        let cx = context(Scope::Tenant(tenant.clone()), Role::Caller);
        let permit = cx.permit::<InvokeSkill>(&tenant)?;
        let time = async |path: &str, times: u32| {
            let skill: SkillName = format!("guest.{path}{times}").parse()?;
            let began = Instant::now();
            for _ in 0..RUNS {
                host.invoke(&cx, &permit, &skill, "{}".to_owned(), Keep::nothing()).await?;
            }
            anyhow::Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS))
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(at).await?)).await?;
        tokio::spawn(connection);
        let (mut ratio, mut ours, mut theirs, mut anew) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            // On a worker, as everything else is: whoever waits outside of them is woken up by another thread each time.
            let (back, bare) = tokio::spawn(plain(sender, at)).await??;
            sender = back;
            let each = async |path| anyhow::Ok((time(path, 1 + MORE).await? - time(path, 1).await?) / f64::from(MORE));
            let (each, connecting) = (each("x").await?, each("close").await?);
            if round > 0 {
                anew.push(connecting);
                ratio.push(each / bare);
                ours.push(each);
                theirs.push(bare);
            }
        }
        elsewhere.shutdown_background();
        let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
        Ok(vec![
            figure("P11", "a skill's request to a loopback server ÷ the same by plain hyper", "ratio", "<= 1.5", ratio),
            figure("P11skill", "a skill's request, each one more of a run", "us", "-", ours),
            figure(
                "P11new",
                "the same where the peer hangs up each time, so that nothing is used again",
                "us",
                "-",
                anew,
            ),
            figure("P11hyper", "the same by plain hyper on a connection that is kept", "us", "-", theirs),
        ])
    })
}

pub(crate) fn leaks() -> anyhow::Result<Vec<Figure>> {
    let secrets: Vec<(SecretName, SecretValue)> = (0..8)
        .map(|n| {
            Ok((format!("secret-{n}").parse()?, SecretValue::from(format!("sk-live-{n}/4eC39HqLyjWDarjtT1zdp7dc+{n}"))))
        })
        .collect::<anyhow::Result<_>>()?;
    // An answer as skills give them: records of a CRM.
    let record = r#"{"Id":"0015g00000XyZ12AAB","Name":"Acme Corp","Industry":"Manufacturing","Phone":"+1 555 0100","Owner":"Ada Lovelace"},"#;
    let output: String = record.chars().cycle().take(64 * 1024).collect();
    let (mut took, mut building) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let began = Instant::now();
        for _ in 0..200 {
            let leaks = Leaks::of(secrets.iter().map(|(name, value)| (name, value)));
            let found = leaks.as_ref().and_then(|leaks| leaks.redact(&output, "output", &mut Vec::new()));
            ensure!(leaks.is_some() && found.is_none());
        }
        let all = began.elapsed().as_secs_f64() * 1e6 / 200.0;
        let began = Instant::now();
        for _ in 0..200 {
            std::hint::black_box(Leaks::of(secrets.iter().map(|(name, value)| (name, value))));
        }
        if round > 0 {
            took.push(all);
            building.push(began.elapsed().as_secs_f64() * 1e6 / 200.0);
        }
    }
    let figure = |id, name, target, rounds| Figure { id, name, unit: "us", target, rounds };
    Ok(vec![
        figure("P12", "leak guard on an output of 64 KiB with 8 values", "<= 100", took),
        figure("P12build", "of that, making what it looks for", "-", building),
    ])
}

pub(crate) fn secret() -> anyhow::Result<Vec<Figure>> {
    const TIMES: u32 = 20_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = in_memory()?;
        let host = host(folder.path(), "").await?;
        let tenant: TenantId = "acme-corp".parse()?;
        tenant_with_origin(&host, &tenant, &[], "https://acme.example.com").await?;
        let key = Arc::new(MasterKey::open_or_create(folder.path())?);
        let store = Store::open(&format!("sqlite:{}", folder.path().join("clawhold.db").display())).await?;
        let keys = DataKeys::new(Arc::clone(&key) as _, Arc::new(StoreKeys(store.clone())));
        let rows = StoreRows::new(store.clone(), Details::new(Arc::clone(&keys)));
        let secrets = CachedSecrets::new(LocalSecrets::new(keys, key, rows));
        let name: SecretName = "crm".parse()?;
        let admin = context(Scope::Tenant(tenant.clone()), Role::Admin);
        let event = Event::by(&admin, "secret.put", "secret:crm".to_owned(), Outcome::Success);
        let value = SecretValue::from("sk-live-4eC39HqLyjWDarjtT1zdp7dc".to_owned());
        secrets.put(&tenant, &name, value, Change::told(event)).await?;
        let mut took = Vec::new();
        for round in 0..=ROUNDS {
            secrets.get(&tenant, &name).await?;
            let before = store.counts().reads;
            let began = Instant::now();
            for _ in 0..TIMES {
                let found = secrets.get(&tenant, &name).await?;
                ensure!(std::hint::black_box(found).is_some());
            }
            let each = began.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES);
            // A value is kept for a second, and a key for a minute.
            ensure!(store.counts().reads - before <= 2 * (1 + began.elapsed().as_secs()), "it reads the database");
            if round > 0 {
                took.push(each);
            }
        }
        let name = "a secret on a warm cache, no read of the database";
        Ok(vec![Figure { id: "P13", name, unit: "us", target: "<= 5", rounds: took }])
    })
}

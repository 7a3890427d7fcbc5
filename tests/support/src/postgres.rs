//! A real PostgreSQL for tests: one private server for each test process, on a free port of loopback, with its data in a
//! temporary folder. It ends with the process, however that ends. `CLAWHOLD_TEST_POSTGRES` names another server instead, as
//! the address of a superuser.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

use crate::shell::Shell;

/// The account that owns the tables of tests, and the one that a host works as.
const OWNER: &str = "clawhold_test_owner";
const APP: &str = "clawhold_test_app";

/// Started by a shell that waits for the end of its input, which is the end of this process, and then stops the server and
/// removes its data. The server refuses to run as root.
const SCRIPT: &str = r#"
set -e
bin=$1 port=$2 fsync=$3 tls=$4
T=$(mktemp -d)
chmod 755 "$T"
mkdir "$T/data"
chmod 700 "$T/data"
cd "$T"
as=
if [ "$(id -u)" = 0 ]; then
    chown nobody "$T/data"
    as="setpriv --reuid=nobody --regid=nogroup --clear-groups"
fi
$as env HOME="$T" LC_ALL=C.UTF-8 "$bin/initdb" -D "$T/data" -U test -A trust -E UTF8 --no-sync >"$T/log" 2>&1 || { cat "$T/log"; exit 1; }
with=
if [ "$tls" = on ]; then
    # An authority of this server's own, and a certificate for the name localhost.
    new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    $new -x509 -subj /CN=tests -keyout "$T/ca.key" -out "$T/ca.crt" 2>"$T/log"
    $new -subj /CN=localhost -keyout "$T/data/server.key" -out "$T/server.csr" 2>"$T/log"
    echo "subjectAltName=DNS:localhost" >"$T/names"
    openssl x509 -req -in "$T/server.csr" -CA "$T/ca.crt" -CAkey "$T/ca.key" -days 2 -extfile "$T/names" \
        -out "$T/data/server.crt" 2>"$T/log" || { cat "$T/log"; exit 1; }
    chmod 600 "$T/data/server.key"
    chmod 644 "$T/data/server.crt" "$T/ca.crt"
    if [ -n "$as" ]; then chown nobody "$T/data/server.key" "$T/data/server.crt"; fi
    with="-c ssl=on"
    echo "authority $T/ca.crt"
fi
start() {
    $as env HOME="$T" LC_ALL=C.UTF-8 "$bin/postgres" -D "$T/data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c fsync=$fsync -c max_connections=300 $with >>"$T/log" 2>&1 </dev/null &
    pid=$!
    until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do
        kill -0 $pid 2>/dev/null || { cat "$T/log"; exit 1; }
        sleep 0.02
    done
}
all() { echo $pid; cat /proc/$pid/task/$pid/children; }
start
echo ready
while read -r word; do
    case $word in
        stop) kill -INT $pid; wait $pid || true ;;
        start) start ;;
        hang) kill -STOP $(all) ;;
        go) kill -CONT $(all) ;;
    esac
    echo done
done
kill -CONT $(all) 2>/dev/null || true
kill -INT $pid 2>/dev/null || true
wait $pid || true
rm -rf "$T"
"#;

const HOW_TO_INSTALL: &str = "install the Debian package postgresql, 15 or newer (`cargo xtask test` does, as root)";

/// A database of its own for one test, with the tables in it.
#[derive(Debug, Clone)]
pub struct Database {
    /// What a host is given: the address of the app's role.
    pub app: String,
    /// The address of the role that owns the tables.
    pub owner: String,
    /// The address of a superuser, for whom no policy holds.
    pub superuser: String,
}

impl Database {
    /// From now on takes no new connection, and closes those on which hosts listen for one another's changes.
    ///
    /// # Errors
    ///
    /// When the server says no.
    pub fn deafen(&self) -> Result<()> {
        let (_, name) = self.app.rsplit_once('/').context("an address without a database")?;
        let server = server()?;
        server.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))?;
        server.run(&format!(
            "DO $$ BEGIN ASSERT (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}' \
             AND (query ILIKE 'LISTEN %' OR query = 'SELECT 1')) > 0; END $$"
        ))
    }
}

static DURABLE: AtomicBool = AtomicBool::new(false);

/// Makes the server keep what is committed, for what measures that. To be called before the first database is made; without
/// it a commit does not wait for the disk, which saves tests most of their time.
pub fn keep_what_is_committed() {
    DURABLE.store(true, Ordering::Relaxed);
}

/// Where the server's programs are, if it is installed.
pub fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = || std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.pop().map(|(_, bin)| bin).or_else(elsewhere)
}

/// A server of a test's own, which it may stop and start.
#[derive(Debug)]
pub struct Stoppable {
    server: Server,
    shell: Shell,
    authority: Option<PathBuf>,
}

impl Stoppable {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed: the error says how to get it.
    pub fn start() -> Result<Self> {
        Self::begin(false)
    }

    /// Starts one that speaks TLS as `localhost`, under the authority that [`Stoppable::authority`] names.
    ///
    /// # Errors
    ///
    /// As [`Stoppable::start`], or without `openssl`.
    pub fn start_with_tls() -> Result<Self> {
        Self::begin(true)
    }

    fn begin(tls: bool) -> Result<Self> {
        let bin = programs().context(HOW_TO_INSTALL)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (shell, authority) = begin(&bin, port, tls)?;
        let server = Server { at: format!("127.0.0.1:{port}"), superuser: None, bin };
        Ok(Self { server, shell, authority })
    }

    /// The file with the certificate of whoever signed the server's.
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// A database on it, as [`Database::new`] makes one.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub fn database(&self, migrate: impl FnOnce(&str) -> Result<()>) -> Result<Database> {
        self.server.template("clawhold", migrate)?;
        Ok(self.server.addresses("clawhold"))
    }

    /// `stop`, `start`, `hang` (all its processes stand still, its connections stay) or `go`, and waits until it is so.
    ///
    /// # Errors
    ///
    /// When the server does not start again.
    pub fn tell(&mut self, word: &str) -> Result<()> {
        self.shell.tell(word)
    }
}

impl Database {
    /// A new database, empty but for what `migrate` puts into the one that all are copies of; it is called once in a process,
    /// with the owner's address.
    ///
    /// # Errors
    ///
    /// When there is no server: the error says how to get one.
    pub fn new(migrate: impl FnOnce(&str) -> Result<()>) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static TEMPLATE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
        let server = server()?;
        let unique = format!("{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let template = format!("clawhold_template_{}", std::process::id());
        let made = TEMPLATE.get_or_init(|| server.template(&template, migrate).map_err(|error| format!("{error:#}")));
        if let Err(error) = made {
            bail!("the template of test databases could not be made: {error}");
        }
        let name = format!("clawhold_test_{unique}");
        server.run(&format!("CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}"))?;
        Ok(server.addresses(&name))
    }
}

#[derive(Debug)]
struct Server {
    /// `user@host:port`, without the user.
    at: String,
    /// Of another's server.
    superuser: Option<String>,
    bin: PathBuf,
}

impl Server {
    /// A database with the tables, and the roles of tests.
    fn template(&self, name: &str, migrate: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        self.run(&format!(
            "DO $$ BEGIN \
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN \
             CREATE ROLE {OWNER} LOGIN CREATEROLE; CREATE ROLE {APP} LOGIN; END IF; END $$"
        ))?;
        self.run(&format!("CREATE DATABASE {name} OWNER {OWNER}"))?;
        // Schema public belongs to the database's owner since PostgreSQL 15.
        migrate(&self.address(OWNER, name))?;
        self.run(&format!("GRANT clawhold_app TO {APP}"))
    }

    fn addresses(&self, database: &str) -> Database {
        Database {
            app: self.address(APP, database),
            owner: self.address(OWNER, database),
            superuser: self.address("test", database),
        }
    }

    fn address(&self, user: &str, database: &str) -> String {
        match (&self.superuser, user) {
            (Some(superuser), "test") => {
                let (server, _) = superuser.rsplit_once('/').unwrap_or((superuser, ""));
                format!("{server}/{database}")
            }
            _ => format!("postgres://{user}@{}/{database}", self.at),
        }
    }

    fn run(&self, statement: &str) -> Result<()> {
        let address = self.superuser.clone().unwrap_or_else(|| self.address("test", "postgres"));
        let said = Command::new(self.bin.join("psql"))
            .args([&address, "-v", "ON_ERROR_STOP=1", "-qc", statement])
            .output()
            .context("psql cannot be run")?;
        if !said.status.success() {
            bail!("{statement}: {}", String::from_utf8_lossy(&said.stderr));
        }
        Ok(())
    }
}

fn server() -> Result<&'static Server> {
    static SERVER: OnceLock<std::result::Result<Server, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    server.as_ref().map_err(|error| anyhow::anyhow!("no PostgreSQL for tests: {error}"))
}

fn start() -> Result<Server> {
    let bin = programs().context(HOW_TO_INSTALL)?;
    if let Ok(superuser) = std::env::var("CLAWHOLD_TEST_POSTGRES") {
        let at = superuser.rsplit_once('@').map_or("", |(_, at)| at);
        let at = at.split_once('/').map_or(at, |(at, _)| at).to_owned();
        return Ok(Server { at, superuser: Some(superuser), bin });
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // Its input closes with this process.
    std::mem::forget(begin(&bin, port, false)?);
    Ok(Server { at: format!("127.0.0.1:{port}"), superuser: None, bin })
}

fn begin(bin: &Path, port: u16, tls: bool) -> Result<(Shell, Option<PathBuf>)> {
    let switch = |on| if on { "on" } else { "off" };
    let (bin, port) = (bin.display().to_string(), port.to_string());
    let arguments = [&*bin, &*port, switch(DURABLE.load(Ordering::Relaxed)), switch(tls)];
    let (shell, said) = Shell::begin(SCRIPT, &arguments)?;
    let authority = said.lines().find_map(|line| line.strip_prefix("authority ")).map(PathBuf::from);
    Ok((shell, authority))
}

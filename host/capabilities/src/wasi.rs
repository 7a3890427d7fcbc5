//! WASI 0.2 for skills that are not pure, and inert: no arguments, environment, sockets or standard input; clocks and
//! randomness are real; what is printed becomes log lines; files exist only in the run's scratch directory, if it was
//! granted one; `wasi:http` leaves by the same way as [`crate::http`].
//!
//! The engine's own implementation does the work. What is here bounds it: each call is counted when the function that
//! serves it asks for its state, and whatever a guest can make grow has a limit.

mod files;
mod http;
mod output;
mod poll;
mod printed;
mod scratch;

use clawhold_sandbox::{Guest, Linker};
use clawhold_tenancy::run::Reason;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, HasSelf, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiCtx, filesystem::WasiFilesystemCtxView};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtx, WasiHttpCtxView};

use self::files::{FilesOfRun, Scratch};
use self::http::Hooks;
use self::poll::Polls;
use self::printed::Printed;
use crate::exits::{HEADER_BYTES, URL_BYTES};
use crate::{RunHost, lock};

pub use self::scratch::ScratchRoot;

/// Things that a guest may hold at a time: streams, pollables, descriptors, header fields, requests. The host keeps
/// memory for each, at most 128 KiB for a request's body that nobody sends, and that memory is not in the run's cap.
const HANDLES: usize = 512;

/// Random bytes in one call. 64 KiB: a call is one call for the limits, however long it takes.
const RANDOM_BYTES: u64 = 64 * 1024;

/// The version of WASI that the engine's implementation registers itself under.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";

/// The host's side of WASI for one run.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    scratch: Scratch,
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl Wasi {
    fn new(host: &RunHost) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES);
        let mut ctx = WasiCtx::builder();
        ctx.stdout(Printed::new("info", &host.journal, &host.limits))
            .stderr(Printed::new("warn", &host.journal, &host.limits))
            .max_random_size(RANDOM_BYTES)
            // A call on a local file takes microseconds, and a task that outlives the run must not touch its files.
            .allow_blocking_current_thread(true);
        let root = host.authority.as_ref().map(|authority| authority.backends.scratch.clone());
        Self {
            ctx: ctx.build(),
            table,
            scratch: Scratch::new(root, &host.limits, &host.journal),
            http,
            hooks: Hooks::new(host.authority.clone(), &host.limits, &host.journal),
        }
    }
}

/// Adds WASI to a linker that has our own interfaces already.
pub fn add_wasi_to_linker(linker: &mut Linker<RunHost>) -> wasmtime::Result<()> {
    type State = Guest<RunHost>;
    type Table = HasSelf<ResourceTable>;
    let l = linker;
    io::error::add_to_linker::<State, Table>(l, |guest| &mut called(guest).table)?;
    io::streams::add_to_linker::<State, Table>(l, |guest| &mut called(guest).table)?;
    io::poll::add_to_linker::<State, Polls<'static>>(l, |guest| Polls(&mut called(guest).table))?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, |guest| called(guest).ctx.random())?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |guest| called(guest).ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |guest| called(guest).ctx.random())?;
    cli::exit::add_to_linker::<State, Exit>(l, |guest| {
        called(guest);
        Exit
    })?;
    cli::environment::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, cli)?;
    filesystem::preopens::add_to_linker::<State, FilesOfRun<'static>>(l, files)?;
    filesystem::types::add_to_linker::<State, FilesOfRun<'static>>(l, files)?;
    outgoing_handler::add_to_linker::<State, WasiHttp>(l, http)?;
    types::add_to_linker::<State, WasiHttp>(l, &types::LinkOptions::default(), http)?;
    bound_requests(l)
}

/// A request's method, authority and path are kept by the host as they were given, and have no limit of their own:
/// with it, all handles together hold some megabytes.
fn bound_requests(linker: &mut Linker<RunHost>) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::http::types::HostOutgoingRequest as Request;
    type Store<'a> = StoreContextMut<'a, Guest<RunHost>>;
    type Set = wasmtime::Result<(Result<(), ()>,)>;
    type Handle = Resource<types::OutgoingRequest>;

    fn fits(text: Option<&str>) -> bool {
        text.is_none_or(|text| text.len() <= URL_BYTES)
    }
    linker.allow_shadowing(true);
    let mut types = linker.instance(HTTP_TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Handle, types::Method)| -> Set {
            let mut http = http(store.data_mut());
            let other = if let types::Method::Other(name) = &method { Some(name.as_str()) } else { None };
            Ok((if fits(other) { Request::set_method(&mut http, request, method)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: Store<'_>, (request, scheme): (Handle, Option<types::Scheme>)| -> Set {
            let mut http = http(store.data_mut());
            let other = if let Some(types::Scheme::Other(name)) = &scheme { Some(name.as_str()) } else { None };
            Ok((if fits(other) { Request::set_scheme(&mut http, request, scheme)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, authority): (Handle, Option<String>)| -> Set {
            let mut http = http(store.data_mut());
            let fits = fits(authority.as_deref());
            Ok((if fits { Request::set_authority(&mut http, request, authority)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Handle, Option<String>)| -> Set {
            let mut http = http(store.data_mut());
            let fits = fits(path.as_deref());
            Ok((if fits { Request::set_path_with_query(&mut http, request, path)? } else { Err(()) },))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Counts a call and gives what serves it. Each WASI function asks for its state once, through here.
///
/// A function cannot be refused at this place, so the one call too many is served, and the guest ends right after it.
fn called(guest: &mut Guest<RunHost>) -> &mut Wasi {
    let host = &guest.host;
    let calls = {
        let mut journal = lock(&host.journal);
        journal.wasi_calls = journal.wasi_calls.saturating_add(1);
        journal.wasi_calls
    };
    if calls > host.limits.wasi_calls {
        guest.stop(Reason::HostCalls);
    }
    let host = &mut guest.host;
    if host.wasi.is_none() {
        host.wasi = Some(Box::new(Wasi::new(host)));
    }
    host.wasi.as_mut().expect("it was made a line above")
}

fn clocks(guest: &mut Guest<RunHost>) -> WasiClocksCtxView<'_> {
    let wasi = called(guest);
    WasiClocksCtxView { ctx: wasi.ctx.clocks(), table: &mut wasi.table }
}

fn cli(guest: &mut Guest<RunHost>) -> WasiCliCtxView<'_> {
    let wasi = called(guest);
    WasiCliCtxView { ctx: wasi.ctx.cli(), table: &mut wasi.table }
}

fn files(guest: &mut Guest<RunHost>) -> FilesOfRun<'_> {
    let wasi = called(guest);
    let inner = WasiFilesystemCtxView { ctx: wasi.ctx.filesystem(), table: &mut wasi.table };
    FilesOfRun { inner, scratch: &mut wasi.scratch }
}

fn http(guest: &mut Guest<RunHost>) -> WasiHttpCtxView<'_> {
    let wasi = called(guest);
    WasiHttpCtxView { hooks: &mut wasi.hooks, table: &mut wasi.table, ctx: &mut wasi.http }
}

/// `wasi:cli/exit`: a skill has no process to end.
struct Exit;

impl HasData for Exit {
    type Data<'a> = Self;
}

impl cli::exit::Host for Exit {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg(format!(
            "the skill ended itself with exit code {code}; a skill returns its output, or an error, and does not exit"
        )))
    }
}

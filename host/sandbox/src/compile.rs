//! Compiling in a process of its own: a component that makes the compiler run for ever, use all memory or crash takes
//! that process along, and nothing else.
//!
//! The process is this same binary, started with one argument that [`compiler_process`] looks for; every program that
//! publishes calls it first of all. It gets the component on standard input and answers on standard output. Its
//! environment is empty, so it knows no secret; its limits are in [`worker`].
//!
//! What it will not do: judge what was compiled. Native code is trusted because this host's own compiler made it.

mod worker;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::Refused;
use crate::artifacts::LoadError;

/// What the compiler's process is started with.
const ARGUMENT: &str = "__compile-component";

/// The first byte of an answer.
const COMPILED: u8 = 0;
const REFUSED: u8 = 1;

/// Bytes of a refusal, and of what the process says on its way out. Enough for an error and its causes.
const MESSAGE_BYTES: u64 = 16 << 10;

/// Bytes of native code of a component. Machine code is four to eight times larger than wasm: sixteen times are allowed, and
/// a little for the smallest; never more than half of what is kept in memory of all components by default.
fn native_bytes(wasm: &[u8]) -> u64 {
    (wasm.len() as u64 * 16 + (4 << 20)).min(256 << 20)
}

/// What a compiler's process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilerLimits {
    /// Bytes of address space. 4 GiB: a Python runtime of 18 MB takes less than one.
    pub memory_bytes: u64,
    /// Processor time. 120 s: large JavaScript and Python runtimes take 20 to 40 on one core.
    pub cpu: Duration,
    /// Time by the clock, on a machine that does other work as well. 300 s.
    pub wall: Duration,
}

impl Default for CompilerLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu: Duration::from_mins(2), wall: Duration::from_mins(5) }
    }
}

/// Compiles and does not return, if this process was started to compile. A program that publishes calls this before
/// anything else: before it starts threads, opens files or reads secrets.
pub fn compiler_process() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT) {
        std::process::exit(worker::run(arguments));
    }
}

/// Native code for a component.
pub(crate) async fn compile(wasm: &[u8], limits: CompilerLimits) -> Result<Vec<u8>, LoadError> {
    let began = Instant::now();
    let failed = |what: &str, error: io::Error| LoadError::Host(format!("the compiler's process {what}: {error}"));
    let mut child = Command::new(myself())
        .arg(ARGUMENT)
        .arg(limits.memory_bytes.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed("could not be started", e))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(LoadError::Host("the compiler's process has no pipes".to_owned()));
    };
    let talk = async {
        let feed = async {
            // A process that died does not read; its status says why.
            let _status_tells = stdin.write_all(wasm).await;
            drop(stdin);
        };
        let ((), answer, said) = tokio::join!(feed, answered(stdout, native_bytes(wasm)), told(stderr));
        let status = child.wait().await;
        Ok((status?, answer?, said))
    };
    let Ok(talked) = tokio::time::timeout(limits.wall, talk).await else {
        // Dropping the child kills it.
        return Err(Refused::Compile(format!(
            "it took more than {} s; make the component smaller, or split it",
            limits.wall.as_secs()
        ))
        .into());
    };
    let (status, answer, said) = talked.map_err(|e| failed("could not be talked to", e))?;
    tracing::debug!(bytes = wasm.len(), seconds = began.elapsed().as_secs_f64(), "compiled a component");
    understand(status, answer, &String::from_utf8_lossy(&said), native_bytes(wasm), limits)
}

/// The kind of an answer and the rest of it, of which no more is read than that kind may have, and one byte.
async fn answered(mut from: impl AsyncRead + Unpin, most: u64) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind).await? == 0 {
        return Ok(None);
    }
    let most = if kind[0] == COMPILED { most } else { MESSAGE_BYTES };
    let mut answer = Vec::new();
    (&mut from).take(most + 1).read_to_end(&mut answer).await?;
    Ok(Some((kind[0], answer)))
}

/// What the process says on its way out; it must not have to wait because it says too much.
async fn told(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    let _what_there_is = (&mut from).take(MESSAGE_BYTES).read_to_end(&mut said).await;
    let _the_rest = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    said
}

/// This program, even if its file was replaced since it started.
fn myself() -> std::path::PathBuf {
    let running = std::path::Path::new("/proc/self/exe");
    if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_default() }
}

fn understand(
    status: ExitStatus,
    answer: Option<(u8, Vec<u8>)>,
    said: &str,
    most: u64,
    limits: CompilerLimits,
) -> Result<Vec<u8>, LoadError> {
    let refused = |why: String| Err(Refused::Compile(why).into());
    if let Some((kind, answer)) = answer
        && status.success()
    {
        return match kind {
            COMPILED if answer.len() as u64 <= most => Ok(answer),
            COMPILED => refused(format!("it makes more than {most} bytes of native code; split it")),
            REFUSED => refused(String::from_utf8_lossy(&answer).into_owned()),
            other => Err(LoadError::Host(format!("the compiler's process answered with {other}"))),
        };
    }
    match status.signal() {
        Some(SIGXCPU | SIGKILL) if said.is_empty() => refused(format!(
            "it took more than {} s of processor time; make the component smaller, or split it",
            limits.cpu.as_secs()
        )),
        Some(SIGABRT) if said.contains("memory allocation") => refused(format!(
            "it took more than {} MiB of memory; make the component smaller, or split it",
            limits.memory_bytes >> 20
        )),
        _ => {
            tracing::warn!(%status, said, "a component crashed its compiler; the publication was refused");
            refused("the compiler crashed over it; report this to the operator with the component".to_owned())
        }
    }
}

const SIGABRT: i32 = rustix::process::Signal::ABORT.as_raw();
const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();
const SIGXCPU: i32 = rustix::process::Signal::XCPU.as_raw();

#[cfg(test)]
pub(crate) use worker::tests::probe_confinement;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadError;

    fn component(functions: usize, statements: usize) -> Vec<u8> {
        // Values that live across branches are what a register allocator is slow at.
        let statement = "(if (local.get 0) (then (local.set 1 (i32.add (local.get 1) (local.get 2)))) \
                         (else (local.set 2 (i32.mul (local.get 2) (local.get 1)))))";
        let function = format!("(func (param i32 i32 i32) {})", statement.repeat(statements));
        wat::parse_str(format!("(component (core module {}))", function.repeat(functions))).unwrap()
    }

    async fn refused(wasm: &[u8], limits: CompilerLimits) -> String {
        match compile(wasm, limits).await {
            Err(LoadError::Refused(refused)) => refused.to_string(),
            other => panic!("{:?}", other.map(|native| native.len())),
        }
    }

    #[tokio::test]
    async fn no_more_of_an_answer_is_read_than_its_kind_may_have() {
        let compiled = answered(io::Cursor::new([COMPILED]).chain(tokio::io::repeat(7)), 1000).await.unwrap();
        assert_eq!(compiled.map(|(kind, answer)| (kind, answer.len())), Some((COMPILED, 1001)));
        let refused = answered(io::Cursor::new([REFUSED]).chain(tokio::io::repeat(7)), u64::MAX - 1).await.unwrap();
        assert_eq!(refused.map(|(kind, answer)| (kind, answer.len())), Some((REFUSED, 16_385)));
        assert_eq!(answered(tokio::io::empty(), 1000).await.unwrap(), None);
        // More is taken from a process that says too much, so that it need not wait, and not kept.
        assert_eq!(told(tokio::io::repeat(7).take(1 << 20)).await.len(), 16_384);
    }

    #[tokio::test]
    async fn a_component_is_compiled_for_this_very_engine() {
        let native = compile(&component(3, 3), CompilerLimits::default()).await.unwrap();
        let engine = wasmtime::Engine::new(&crate::engine::compiler_config()).unwrap();
        // SAFETY: this program's own compiler made it, above.
        #[allow(unsafe_code)]
        let loaded = unsafe { wasmtime::component::Component::deserialize(&engine, &native) };
        loaded.unwrap();
    }

    #[tokio::test]
    async fn hostile_32_a_component_that_compiles_for_ever_is_refused_with_a_reason() {
        let bomb = component(400, 500);
        let cpu = CompilerLimits { cpu: Duration::from_secs(1), ..CompilerLimits::default() };
        let said = refused(&bomb, cpu).await;
        assert!(said.contains("1 s of processor time") && said.contains("split it"), "{said}");
        let wall = CompilerLimits { wall: Duration::from_millis(300), ..CompilerLimits::default() };
        let said = refused(&bomb, wall).await;
        assert!(said.contains("it took more than 0 s"), "{said}");
    }

    #[tokio::test]
    async fn hostile_32_a_component_that_takes_all_memory_to_compile_is_refused_with_a_reason() {
        let limits = CompilerLimits { memory_bytes: 96 << 20, ..CompilerLimits::default() };
        let said = refused(&component(1500, 200), limits).await;
        assert!(said.contains("96 MiB of memory") && said.contains("split it"), "{said}");
    }

    #[tokio::test]
    async fn what_is_no_component_is_refused_in_the_compilers_words() {
        let said = refused(b"\0asm\x0d\0\x01\0rubbish", CompilerLimits::default()).await;
        assert!(said.contains("cannot be compiled"), "{said}");
    }

    #[tokio::test]
    async fn the_compilers_process_reaches_no_network_no_file_and_no_program() {
        let said = Command::new(myself()).arg(worker::tests::PROBE).env_clear().output().await.unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        for what in ["socket", "file", "program", "thread", "signal"] {
            assert!(said.contains(&format!("{what}: Operation not permitted")), "{said}");
        }
    }
}

//! The compiler's process, from the inside: takes limits upon itself, reads a component, answers with native code.
//!
//! The component is hostile and the compiler is large. What a hole in it could reach is taken away before it sees a
//! byte: address space, processor time, files and core dumps by resource limits; every system call but a few by a
//! filter, sockets and new programs among them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};

use clawhold_tenancy::limits::COMPONENT_BYTES;
use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::Engine;

use super::{COMPILED, MESSAGE_BYTES, REFUSED};
use crate::engine::compiler_config;

/// Files that may be open: three pipes and some room for the runtime.
const FILES: u64 = 16;

/// Gives the exit code.
pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> i32 {
    match answer(arguments) {
        Ok(answer) => {
            let mut out = std::io::stdout();
            i32::from(out.write_all(&answer).and_then(|()| out.flush()).is_err())
        }
        Err(error) => {
            eprintln!("{error:#}");
            2
        }
    }
}

fn answer(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<u8>> {
    let mut number = || arguments.next().and_then(|text| text.to_str()?.parse::<u64>().ok());
    let (Some(memory), Some(cpu)) = (number(), number()) else {
        anyhow::bail!("this is the compiler of a Clawhold host; it is not for people");
    };
    let engine = Engine::new(&single_threaded())?;
    let_go_of_inherited_files();
    let limit = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::As, memory)?;
    // The soft limit ends the process with a signal that tells why; the hard one a second later in any case.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) })?;
    limit(Resource::Nofile, FILES)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    // Runs of skills go first.
    let _as_it_was = rustix::process::nice(15);
    confine()?;

    let mut wasm = Vec::new();
    std::io::stdin().take(COMPONENT_BYTES + 1).read_to_end(&mut wasm)?;
    Ok(match engine.precompile_component(&wasm) {
        Ok(native) => [&[COMPILED][..], &native].concat(),
        Err(error) => {
            let mut said = format!("{error:#}");
            said.truncate(said.floor_char_boundary(usize::try_from(MESSAGE_BYTES).unwrap_or(1024)));
            [&[REFUSED][..], said.as_bytes()].concat()
        }
    })
}

/// Whoever started the host may have left files open for it, and this process is not to read or write them.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn let_go_of_inherited_files() {
    // SAFETY: standard input, output and error stay open, and nothing else has opened a file in this process.
    let _closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

#[cfg(not(target_os = "linux"))]
fn let_go_of_inherited_files() {}

/// One thread: threads would multiply the memory, and several cores are for the runs.
fn single_threaded() -> wasmtime::Config {
    let mut config = compiler_config();
    config.parallel_compilation(false);
    config
}

/// What compiling needs of the system: memory, the pipes, locks, and an end, orderly or not.
#[cfg(target_os = "linux")]
const ALLOWED: [i64; 25] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Answers every other system call with an error.
#[cfg(target_os = "linux")]
fn confine() -> anyhow::Result<()> {
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    // It may abort itself, and signal nobody else: the host runs as the same user.
    let own = u64::from(std::process::id());
    let itself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![itself])?]);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let denied = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, architecture)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn confine() -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::confine;

    /// What the test binary is started with to try what the filter refuses.
    pub(crate) const PROBE: &str = "__probe-confinement";

    /// Tries what a compiler that was taken over would try, and prints how each ended.
    pub(crate) fn probe_confinement() {
        if std::env::args().nth(1).is_none_or(|first| first != PROBE) {
            return;
        }
        let parent = rustix::process::getppid().map_or(1, |parent| parent.as_raw_nonzero().get());
        confine().expect("the filter is valid");
        let strip = |error: std::io::Error| error.to_string();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").map(|_| ()).map_err(strip);
        let file = std::fs::File::open("/etc/passwd").map(|_| ()).map_err(strip);
        let program = std::process::Command::new("/bin/true").spawn().map(|_| ()).map_err(strip);
        let thread = std::thread::Builder::new().spawn(|| ()).map(|_| ()).map_err(strip);
        #[allow(unsafe_code)]
        // SAFETY: signal 0 asks whether one could be sent, and sends none.
        let asked = unsafe { libc::syscall(libc::SYS_tgkill, parent, parent, 0) };
        let signal = if asked == 0 { Ok(()) } else { Err(strip(std::io::Error::last_os_error())) };
        for (what, ended) in
            [("socket", socket), ("file", file), ("program", program), ("thread", thread), ("signal", signal)]
        {
            println!("{what}: {}", ended.err().unwrap_or_else(|| "done".to_owned()));
        }
        std::process::exit(0);
    }
}

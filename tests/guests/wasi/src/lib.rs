//! A guest on WASI that tries on request what a program can try there, for the tests of what the host then does.
#![cfg(target_os = "wasi")]

mod files;
mod grow;
mod requests;

use std::io::{Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clawhold_skill::{Error, data, log, skill};
use wasip2::cli::environment;
use wasip2::filesystem::preopens;

/// What a program finds when it begins.
#[data]
struct Surroundings {
    arguments: Vec<String>,
    environment: Vec<String>,
    directories: Vec<String>,
    initial_directory: Option<String>,
    input_bytes: usize,
}

/// Says what there is to find.
#[skill(name = "wasi.surroundings")]
fn surroundings() -> Surroundings {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("an empty input can be read");
    Surroundings {
        arguments: environment::get_arguments(),
        environment: environment::get_environment()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        directories: preopens::get_directories().into_iter().map(|(_, name)| name).collect(),
        initial_directory: environment::initial_cwd(),
        input_bytes: input.len(),
    }
}

/// Gives back what it gets, and calls nothing.
#[skill(name = "wasi.echo")]
fn echo(text: String) -> String {
    text
}

/// Prints one line, as a first program does.
#[skill(name = "wasi.hello")]
fn hello() -> bool {
    println!("Hello, world!");
    true
}

/// Prints lines to one output and to the other.
#[skill(name = "wasi.print")]
fn print(out: u32, err: u32) -> bool {
    for n in 0..out {
        println!("out {n}");
    }
    for n in 0..err {
        eprintln!("err {n}");
    }
    log::info!("logged");
    true
}

/// Prints so many bytes without an end of line, and then traps if asked for.
#[skill(name = "wasi.print_endless")]
fn print_endless(bytes: u32, trap: bool) -> bool {
    let text = "x".repeat(bytes as usize);
    print!("{text}");
    std::io::stdout().flush().expect("printing does not fail");
    assert!(!trap, "trapped");
    true
}

/// What the clocks and the random numbers say.
#[data]
struct Measured {
    unix_seconds: u64,
    slept_ms: u64,
    random: Vec<u64>,
}

/// Looks at the clocks around a sleep, and takes random numbers.
#[skill(name = "wasi.measure")]
fn measure(sleep_ms: u64) -> Measured {
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(sleep_ms));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Measured {
        unix_seconds: now.as_secs(),
        slept_ms: u64::try_from(began.elapsed().as_millis()).expect("it is not that long"),
        random: (0..2).map(|_| wasip2::random::random::get_random_u64()).collect(),
    }
}

/// Ends the program.
#[skill(name = "wasi.exit")]
fn exit(code: i32) -> bool {
    std::process::exit(code)
}

/// Looks at the clock for ever.
#[skill(name = "wasi.chatter")]
fn chatter() -> bool {
    loop {
        std::hint::black_box(wasip2::clocks::monotonic_clock::now());
    }
}

/// Asks for so many random bytes at once.
#[skill(name = "wasi.random")]
fn random(bytes: u64, insecure: bool) -> usize {
    if insecure {
        wasip2::random::insecure::get_insecure_random_bytes(bytes).len()
    } else {
        wasip2::random::random::get_random_bytes(bytes).len()
    }
}

/// Ends in the way that is asked for.
fn end(how: &str) -> Result<(), Error> {
    match how {
        "error" => Err(Error::failed("as asked")),
        "panic" => panic!("as asked"),
        "exit" => std::process::exit(3),
        "ask" => {
            let _answer = clawhold_skill::http::get("https://acme.example.com/allowed/x").send();
            Ok(())
        }
        "ask_by_wasi" => {
            requests::ask("https", "acme.example.com", "/allowed/x");
            Ok(())
        }
        "spin" => loop {
            std::hint::black_box(0);
        },
        "sleep" => {
            std::thread::sleep(Duration::from_hours(1));
            Ok(())
        }
        "hoard" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&held);
            }
        }
        "chatter" => {
            chatter();
            Ok(())
        }
        _ => Ok(()),
    }
}

//! What a guest hands to host functions: pointers, lengths, discriminants, handles, and the memory that these lead to.
//!
//! One interpreter for each encoding of strings runs programs that arrive as input, so a case costs a run and not a
//! compilation. A program is made of host calls as a library would make them, with a few numbers exchanged.

mod network;
mod program;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clawhold_tenancy::SkillName;
use clawhold_test_support::guest::Guest;
use fastrand::Rng;

use crate::hosted::Hosted;
use crate::mutate::{number, once_in, one};
use crate::{Subject, mutate};
use network::{Network, PATHS};
use program::{Argument, Encoding, Program, REALLOCS, Step};

/// Bytes that the interpreter's manifest asks for.
const MEMORY: u64 = 4 << 20;

/// How often the clean guest looks for what others left.
const LOOK: u64 = 64;

/// Where a program keeps what: strings, a request, places for results, its answer.
const STRINGS: u32 = 65_536;
const REQUEST: u32 = 98_304;
const RESULT: u32 = 106_496;
const ANSWER: u32 = 512;

/// Words that mean something to the host, and some that are no text at all.
const WORDS: [&[u8]; 14] = [
    b"token",
    b"login",
    b"user",
    b"guest.done",
    b"secret.put",
    b"{\"a\":1}",
    b"",
    b"\0",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"caf\xc3\xa9 \xf0\x9f\xa6\x80",
    b"x-api-key",
    b"content-length",
    b"a\r\nb: c",
];

pub(crate) fn generate(rng: &mut Rng) -> Vec<u8> {
    program(rng).to_string().into_bytes()
}

/// A program, and what it has set so far.
struct Writer<'r> {
    rng: &'r mut Rng,
    encoding: Encoding,
    steps: Vec<Step>,
    /// Where the next string goes.
    free: u32,
    /// One number in so many is another than it should be.
    odd: u32,
}

fn program(rng: &mut Rng) -> Program {
    let encoding = *one(rng, &Encoding::ALL);
    // Some programs are well-formed: they get furthest.
    let odd = [3, 8, 20, 60, 10_000][rng.usize(..5)];
    let mut writer = Writer { rng, encoding, steps: Vec::new(), free: STRINGS, odd };
    for _ in 0..=writer.rng.usize(..6) {
        writer.step();
    }
    writer.answer();
    Program { encoding, steps: writer.steps }
}

impl Writer<'_> {
    fn step(&mut self) {
        match self.rng.u8(..16) {
            0..2 => self.secret("reveal"),
            2..4 => self.secret("field"),
            4..6 => self.secret("hmac"),
            6 => self.secret("drop"),
            7..11 => self.send(),
            11 => {
                let (level, text) = (self.small(4), self.string());
                self.call("log", &[level, text.0, text.1]);
            }
            12 => {
                let (action, resource, detail) = (self.string_of(b"guest.done"), self.string(), self.string_of(b"{}"));
                let outcome = self.small(2);
                let room = self.odd(RESULT);
                self.call("record", &[action.0, action.1, resource.0, resource.1, outcome, detail.0, detail.1, room]);
            }
            13 => {
                let mode = u8::try_from(self.rng.usize(..REALLOCS.len())).unwrap_or_default();
                let (value, after) = (number(self.rng), self.rng.u32(..4));
                self.steps.push(Step::Realloc { mode, value, after });
            }
            14 => {
                let (at, bytes) = (number(self.rng), number(self.rng) >> self.rng.u8(..16));
                self.steps.push(match self.rng.u8(..3) {
                    0 => Step::Fill { at: at & 0x3_ffff, byte: self.rng.u8(..), bytes: bytes & 0x1_ffff },
                    1 => Step::Copy { to: REQUEST + (at & 0xff), from: RESULT, bytes: bytes & 0xff },
                    _ => Step::Grow(at & 0xff),
                });
            }
            _ => {
                let mode = self.rng.u8(..4);
                self.steps.push(Step::Post(mode));
            }
        }
    }

    /// A number, or now and then another.
    fn odd(&mut self, number: u32) -> u32 {
        if once_in(self.rng, self.odd) { mutate::number(self.rng) } else { number }
    }

    fn small(&mut self, most: u32) -> u32 {
        let number = self.rng.u32(..=most);
        self.odd(number)
    }

    fn string(&mut self) -> (u32, u32) {
        let word = *one(self.rng, &WORDS);
        self.string_of(word)
    }

    /// Sets a string and gives its address and length, as its encoding counts it.
    fn string_of(&mut self, usual: &[u8]) -> (u32, u32) {
        let text = if once_in(self.rng, self.odd) { *one(self.rng, &WORDS) } else { usual };
        let mut wide = self.encoding == Encoding::Utf16;
        // Both kinds of the compact encoding, with the bit that tells which.
        let tag = if self.encoding == Encoding::Compact && self.rng.bool() { 1 << 31 } else { 0 };
        wide |= tag != 0;
        let bytes = match str::from_utf8(text) {
            Ok(text) if wide => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            _ => text.to_vec(),
        };
        let units = u32::try_from(if wide { bytes.len() / 2 } else { bytes.len() }).unwrap_or_default();
        let at = self.free;
        self.free = (at + 2 * units + 8) & !7;
        self.steps.push(Step::Store(at, bytes));
        (self.odd(at), self.odd(units | tag))
    }

    fn bytes(&mut self, at: u32, bytes: &[u8]) {
        self.steps.push(Step::Store(at, bytes.to_vec()));
    }

    fn word(&mut self, at: u32, value: u32) {
        let value = self.odd(value);
        self.bytes(at, &value.to_le_bytes());
    }

    fn call(&mut self, name: &str, arguments: &[u32]) {
        let arguments = arguments.iter().map(|value| Argument::Is(*value)).collect();
        self.call_with(name, arguments);
    }

    fn call_with(&mut self, name: &str, arguments: Vec<Argument>) {
        let which = program::CALLS.iter().position(|call| *call == name).and_then(|at| u8::try_from(at).ok());
        let times = if once_in(self.rng, 16) { self.rng.u32(..300) } else { 1 };
        self.steps.push(Step::Call { which: which.unwrap_or_default(), times, arguments });
    }

    /// Gets a handle. It is behind the result's discriminant.
    fn handle(&mut self) -> Argument {
        let name = if self.rng.bool() { "token" } else { "login" };
        let name = self.string_of(name.as_bytes());
        let place = RESULT + 64 * self.rng.u32(..4);
        let room = self.odd(place);
        self.call("get", &[name.0, name.1, room]);
        if once_in(self.rng, self.odd) { Argument::Is(number(self.rng)) } else { Argument::At(place + 4) }
    }

    fn secret(&mut self, what: &str) {
        let handle = self.handle();
        let room = Argument::Is(self.odd(RESULT + 512));
        let arguments = match what {
            "reveal" => vec![handle, room],
            "drop" => vec![handle],
            "field" => {
                let (at, length) = self.string_of(b"user");
                vec![handle, Argument::Is(at), Argument::Is(length), room]
            }
            _ => {
                let (at, length) = (self.odd(STRINGS), self.rng.u32(..5000));
                let length = self.odd(length);
                vec![handle, Argument::Is(at), Argument::Is(length), room]
            }
        };
        self.call_with(what, arguments);
    }

    /// A request in memory, by the offsets of its fields, and the call that sends it.
    fn send(&mut self) {
        let path = *one(self.rng, &PATHS);
        let url = self.string_of(format!("https://peer.example.com{path}").as_bytes());
        let method = self.small(2).to_le_bytes()[0];
        self.bytes(REQUEST, &[method]);
        self.word(REQUEST + 4, url.0);
        self.word(REQUEST + 8, url.1);
        let fields = if self.rng.bool() { 0 } else { self.rng.u32(..5) };
        let list = REQUEST + 1024;
        for n in 0..fields {
            let (name, value) = (self.string_of(b"x-field"), self.string());
            for (offset, word) in [(0, name.0), (4, name.1), (8, value.0), (12, value.1)] {
                self.word(list + 16 * n + offset, word);
            }
        }
        self.word(REQUEST + 12, list);
        self.word(REQUEST + 16, fields);
        if self.rng.bool() {
            let present = self.small(1).to_le_bytes()[0];
            let length = self.rng.u32(..100_000);
            self.bytes(REQUEST + 20, &[present]);
            self.word(REQUEST + 24, STRINGS);
            self.word(REQUEST + 28, length);
        }
        if self.rng.bool() {
            let present = self.small(1).to_le_bytes()[0];
            self.bytes(REQUEST + 32, &[present]);
            self.word(REQUEST + 36, 1000);
        }
        if self.rng.bool() {
            self.credential();
        }
        let (request, room) = (self.odd(REQUEST), self.odd(RESULT + 1024));
        self.call("send", &[request, room]);
    }

    fn credential(&mut self) {
        let kind = self.small(3);
        let handle = self.handle();
        let from = match handle {
            Argument::At(address) => address,
            Argument::Is(_) => RESULT,
        };
        let present = self.small(1).to_le_bytes()[0];
        self.bytes(REQUEST + 40, &[present]);
        self.bytes(REQUEST + 44, &[kind.to_le_bytes()[0]]);
        if kind < 2 {
            for to in [REQUEST + 48, REQUEST + 52] {
                self.steps.push(Step::Copy { to, from, bytes: 4 });
            }
            return;
        }
        let (name, prefix) = (self.string_of(b"x-api-key"), self.string_of(b"Token "));
        for (offset, word) in [(48, name.0), (52, name.1), (56, prefix.0), (60, prefix.1)] {
            self.word(REQUEST + offset, word);
        }
        self.steps.push(Step::Copy { to: REQUEST + 64, from, bytes: 4 });
    }

    fn answer(&mut self) {
        let text = match self.rng.u8(..4) {
            0 => self.string(),
            _ => self.string_of(b"true"),
        };
        let ended = u32::from(once_in(self.rng, 8));
        let ended = self.odd(ended).to_le_bytes()[0];
        self.bytes(ANSWER, &[ended]);
        if ended == 0 {
            self.word(ANSWER + 4, text.0);
            self.word(ANSWER + 8, text.1);
        } else {
            let kind = self.small(3).to_le_bytes()[0];
            self.bytes(ANSWER + 4, &[kind]);
            self.word(ANSWER + 8, text.0);
            self.word(ANSWER + 12, text.1);
        }
        let at = self.odd(ANSWER);
        self.steps.push(Step::Answer(at));
    }
}

struct Lifter {
    hosted: Hosted,
    /// The interpreter of each encoding.
    skills: Vec<SkillName>,
    cases: u64,
}

pub(crate) fn start() -> Result<Box<dyn Subject>> {
    Ok(Box::new(Lifter::start()?))
}

impl Lifter {
    fn start() -> Result<Self> {
        let mut hosted = Hosted::start(Some(Arc::new(Network)))?;
        let mut skills = Vec::new();
        for encoding in Encoding::ALL {
            let name = encoding.as_str().replace('+', "-");
            let stride = if encoding == Encoding::Utf16 { "2" } else { "1" };
            let mut text = include_str!("lifting/interpreter.wat").replace("STRIDE", stride);
            if encoding != Encoding::Utf8 {
                text = format!(";;@ {}\n{text}", encoding.as_str());
            }
            let guest = Guest::of(&name, &text).with_context(|| format!("the interpreter for {name}"))?;
            hosted.add(guest.wasm).with_context(|| format!("publish the interpreter for {name}"))?;
            skills.push(format!("guest.{name}").parse()?);
        }
        Ok(Self { hosted, skills, cases: 0 })
    }
}

impl Subject for Lifter {
    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let text = str::from_utf8(input).map_err(|e| format!("the program is no text: {e}"))?;
        let program: Program = text.parse()?;
        if self.hosted.is_worn_out() {
            *self = Self::start().map_err(|e| format!("a new host does not start: {e:#}"))?;
        }
        let at = Encoding::ALL.iter().position(|encoding| *encoding == program.encoding).unwrap_or_default();
        let (end, record) = self.hosted.ends(&self.skills[at], &program.input())?;
        if record.usage.memory_bytes > MEMORY {
            return Err(format!("a run with {MEMORY} bytes took {}", record.usage.memory_bytes));
        }
        self.cases += 1;
        self.hosted.still_works()?;
        if self.cases.is_multiple_of(LOOK) {
            self.hosted.is_clean()?;
        }
        Ok(end)
    }
}

//! Programs for the interpreter, as text that people can read and as the bytes that it reads.

use std::fmt;
use std::str::FromStr;

/// How a guest's strings are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Utf16,
    Compact,
}

/// What a call is given: a number, or the number at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Is(u32),
    At(u32),
}

/// Host functions, in the interpreter's order.
pub(crate) const CALLS: [&str; 8] = ["log", "record", "get", "field", "reveal", "hmac", "drop", "send"];
/// What `cabi_realloc` does, in the interpreter's order.
pub(crate) const REALLOCS: [&str; 8] = ["good", "fixed", "beside", "trap", "spin", "call", "grow", "same"];
/// What the function after the answer does, in the interpreter's order.
pub(crate) const POSTS: [&str; 4] = ["nothing", "trap", "spin", "call"];

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Answer(u32),
    Store(u32, Vec<u8>),
    Copy { to: u32, from: u32, bytes: u32 },
    Fill { at: u32, byte: u8, bytes: u32 },
    Call { which: u8, times: u32, arguments: Vec<Argument> },
    Realloc { mode: u8, value: u32, after: u32 },
    Grow(u32),
    Post(u8),
}

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) encoding: Encoding,
    pub(crate) steps: Vec<Step>,
}

impl Encoding {
    pub(crate) const ALL: [Self; 3] = [Self::Utf8, Self::Utf16, Self::Compact];

    /// As a guest's text names it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Utf16 => "utf16",
            Self::Compact => "latin1+utf16",
        }
    }
}

impl Program {
    /// The interpreter's input.
    pub(crate) fn input(&self) -> String {
        let mut code = Vec::new();
        for step in &self.steps {
            step.encode(&mut code);
        }
        // A program that does not say how it ends answers from nowhere.
        Step::Answer(0).encode(&mut code);
        let letter = |nibble: u8| char::from(b'a' + nibble);
        let letters: String = code.iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect();
        format!("\"{letters}\"")
    }
}

impl Step {
    fn encode(&self, code: &mut Vec<u8>) {
        let words = |code: &mut Vec<u8>, words: &[u32]| code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        match self {
            Self::Answer(at) => {
                code.push(0);
                words(code, &[*at]);
            }
            Self::Store(at, bytes) => {
                code.push(1);
                words(code, &[*at, u32::try_from(bytes.len()).unwrap_or(u32::MAX)]);
                code.extend(bytes);
            }
            Self::Copy { to, from, bytes } => {
                code.push(2);
                words(code, &[*to, *from, *bytes]);
            }
            Self::Fill { at, byte, bytes } => {
                code.push(3);
                words(code, &[*at]);
                code.push(*byte);
                words(code, &[*bytes]);
            }
            Self::Call { which, times, arguments } => {
                code.extend([4, *which]);
                words(code, &[*times]);
                for at in 0..8 {
                    let (kind, value) = match arguments.get(at) {
                        Some(Argument::At(address)) => (1, *address),
                        Some(Argument::Is(value)) => (0, *value),
                        None => (0, 0),
                    };
                    code.push(kind);
                    words(code, &[value]);
                }
            }
            Self::Realloc { mode, value, after } => {
                code.extend([5, *mode]);
                words(code, &[*value, *after]);
            }
            Self::Grow(pages) => {
                code.push(6);
                words(code, &[*pages]);
            }
            Self::Post(mode) => code.extend([7, *mode]),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "strings {}", self.encoding.as_str())?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(at) => write!(f, "answer {at}"),
            Self::Store(at, bytes) => {
                let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"';
                if !bytes.is_empty() && bytes.iter().all(plain) {
                    return write!(f, "store {at} \"{}\"", String::from_utf8_lossy(bytes));
                }
                write!(f, "store {at} x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Copy { to, from, bytes } => write!(f, "copy {to} {from} {bytes}"),
            Self::Fill { at, byte, bytes } => write!(f, "fill {at} {byte} {bytes}"),
            Self::Call { which, times, arguments } => {
                write!(f, "call {times} {}", CALLS[usize::from(*which) % CALLS.len()])?;
                arguments.iter().try_for_each(|argument| match argument {
                    Argument::Is(value) => write!(f, " {value}"),
                    Argument::At(address) => write!(f, " @{address}"),
                })
            }
            Self::Realloc { mode, value, after } => {
                write!(f, "realloc {} {value} {after}", REALLOCS[usize::from(*mode) % REALLOCS.len()])
            }
            Self::Grow(pages) => write!(f, "grow {pages}"),
            Self::Post(mode) => write!(f, "post {}", POSTS[usize::from(*mode) % POSTS.len()]),
        }
    }
}

impl FromStr for Program {
    type Err = String;

    /// Reads what is displayed. Lines that begin with `#` are for people.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.next().unwrap_or_default();
        let encoding =
            first.strip_prefix("strings ").and_then(|name| Encoding::ALL.into_iter().find(|e| e.as_str() == name));
        let encoding = encoding.ok_or_else(|| format!("{first:?} names no encoding; write `strings utf8`"))?;
        let steps =
            lines.map(|line| step(line).ok_or_else(|| format!("{line:?} is no step"))).collect::<Result<_, _>>()?;
        Ok(Self { encoding, steps })
    }
}

fn step(line: &str) -> Option<Step> {
    let (name, rest) = line.split_once(' ')?;
    let place = |names: &[&str], name: &str| u8::try_from(names.iter().position(|known| *known == name)?).ok();
    if name == "store" {
        let (at, what) = rest.split_once(' ')?;
        let bytes = match what.strip_prefix('x') {
            Some(hex) => {
                let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
                digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect::<Option<_>>()?
            }
            None => what.strip_prefix('"')?.strip_suffix('"')?.as_bytes().to_vec(),
        };
        return Some(Step::Store(at.parse().ok()?, bytes));
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    Some(match name {
        "answer" => Step::Answer(number(0)?),
        "copy" => Step::Copy { to: number(0)?, from: number(1)?, bytes: number(2)? },
        "fill" => Step::Fill { at: number(0)?, byte: u8::try_from(number(1)?).ok()?, bytes: number(2)? },
        "call" => {
            let argument = |word: &&str| match word.strip_prefix('@') {
                Some(address) => address.parse().ok().map(Argument::At),
                None => word.parse().ok().map(Argument::Is),
            };
            Step::Call {
                times: number(0)?,
                which: place(&CALLS, words.get(1)?)?,
                arguments: words[2..].iter().map(argument).collect::<Option<_>>()?,
            }
        }
        "realloc" => Step::Realloc { mode: place(&REALLOCS, words[0])?, value: number(1)?, after: number(2)? },
        "grow" => Step::Grow(number(0)?),
        "post" => Step::Post(place(&POSTS, words[0])?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_back_as_it_is_shown() {
        for seed in 0..2000 {
            let made = super::super::program(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(made.to_string().parse::<Program>().unwrap(), made, "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_program_is_refused_by_its_line() {
        for (text, expected) in [
            ("", "names no encoding"),
            ("strings utf9", "utf9"),
            ("strings utf8\njump 3", "jump 3"),
            ("strings utf8\ncall 1 shout 3", "shout"),
            ("strings utf8\nstore 1 xabc", "xabc"),
        ] {
            let error = text.parse::<Program>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

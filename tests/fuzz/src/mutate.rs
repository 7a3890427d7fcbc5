//! A few things wrong with a valid input.

use fastrand::Rng;

/// Bytes that an input may grow to. Everything that is read has a limit far below or far above it.
const LONGEST: usize = 1 << 20;

/// Numbers near which something ends: sizes of types, pages, memories, and what overflows when it is multiplied by the
/// size of a list's element.
const NUMBERS: [u32; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    4096,
    0xffff,
    0x1_0000,
    0x1_0001,
    0x2_0000,
    0x00ff_ffff,
    0x0800_0000,
    0x1000_0000,
    0x1555_5556,
    0x3fff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xd800_0000,
    0xffff_ffff,
];

/// One of those, or one beside it, or any.
pub(crate) fn number(rng: &mut Rng) -> u32 {
    let number = NUMBERS[rng.usize(..NUMBERS.len())];
    match rng.u8(..8) {
        0 => rng.u32(..),
        1 => number.wrapping_add(rng.u32(1..=16)),
        2 => number.wrapping_sub(rng.u32(1..=16)),
        _ => number,
    }
}

pub(crate) fn one<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(..of.len())]
}

/// Once in so many times.
pub(crate) fn once_in(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}

/// Changes bytes, wherever they are. Some of the words get in, and sometimes a piece of another input.
pub(crate) fn bytes(rng: &mut Rng, input: &mut Vec<u8>, words: &[&str], other: &[u8]) {
    for _ in 0..=(rng.usize(..4) * rng.usize(..3)) {
        change(rng, input, words, other);
        input.truncate(LONGEST);
    }
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, words: &[&str], other: &[u8]) {
    let at = rng.usize(..=input.len());
    // Short pieces more often than long ones.
    let longest = [4, 16, 64, 4096][rng.usize(..4)];
    let piece = |rng: &mut Rng, of: &[u8]| {
        let from = rng.usize(..=of.len());
        from..of.len().min(from + rng.usize(..=longest))
    };
    match rng.u8(..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => {
            let word = if words.is_empty() { "" } else { one(rng, words) };
            input.splice(at..at, word.bytes());
        }
        3 => {
            let number = number(rng);
            let end = input.len().min(at + rng.usize(..=5));
            input.splice(at..end, leb(number));
        }
        4 => {
            let number = number(rng).to_le_bytes();
            let end = input.len().min(at + 4);
            input[at..end].copy_from_slice(&number[..end - at]);
        }
        5 => {
            let gone = piece(rng, input);
            input.drain(gone);
        }
        6 => {
            let again = piece(rng, input);
            let times = [1, 1, 2, 40, 2000][rng.usize(..5)].min(LONGEST / (again.len() + 1));
            let again = input[again].repeat(times);
            input.splice(at..at, again);
        }
        7 => input.truncate(at),
        8 => {
            let foreign = other[piece(rng, other)].to_vec();
            let end = input.len().min(at + if rng.bool() { foreign.len() } else { 0 });
            input.splice(at..end, foreign);
        }
        _ => {
            let random: Vec<u8> = (0..rng.usize(..16)).map(|_| rng.u8(..)).collect();
            input.splice(at..at, random);
        }
    }
}

/// Changes a text by its lines, its numbers and its quoted words.
pub(crate) fn text(rng: &mut Rng, input: &str, words: &[&str]) -> String {
    let mut lines: Vec<String> = input.lines().map(str::to_owned).collect();
    for _ in 0..=rng.usize(..3) {
        if lines.is_empty() {
            break;
        }
        let at = rng.usize(..lines.len());
        match rng.u8(..8) {
            0 => drop(lines.remove(at)),
            1 => {
                let line = lines[at].clone();
                let to = rng.usize(..=lines.len());
                lines.splice(to..to, std::iter::repeat_n(line, [1, 1, 2, 100][rng.usize(..4)]));
            }
            2 => {
                let to = rng.usize(..lines.len());
                lines.swap(at, to);
            }
            3 | 4 => lines[at] = quoted(rng, &lines[at], words),
            _ => {
                // Most lines have no number: look for one that has.
                let with = (0..lines.len()).map(|i| (at + i) % lines.len());
                if let Some(at) = with.into_iter().find(|at| lines[*at].contains(|c: char| c.is_ascii_digit())) {
                    lines[at] = numbers(rng, &lines[at]);
                }
            }
        }
    }
    lines.join("\n")
}

/// The line with one of its numbers replaced.
fn numbers(rng: &mut Rng, line: &str) -> String {
    let starts: Vec<usize> = line
        .char_indices()
        .filter(|(at, c)| c.is_ascii_digit() && !line[..*at].ends_with(|c: char| c.is_ascii_alphanumeric()))
        .map(|(at, _)| at)
        .collect();
    if starts.is_empty() {
        return line.to_owned();
    }
    let at = *one(rng, &starts);
    let end = line[at..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |length| at + length);
    let number = match rng.u8(..8) {
        0 => u64::MAX.to_string(),
        1 => "-1".to_owned(),
        2 => rng.u8(..).to_string(),
        _ => number(rng).to_string(),
    };
    format!("{}{number}{}", &line[..at], &line[end..])
}

/// The line with what stands between two of its quotes replaced.
fn quoted(rng: &mut Rng, line: &str, words: &[&str]) -> String {
    let parts: Vec<&str> = line.split('"').collect();
    if parts.len() < 3 || words.is_empty() {
        return line.to_owned();
    }
    let at = 1 + 2 * rng.usize(..(parts.len() - 1) / 2);
    let mut parts: Vec<String> = parts.into_iter().map(str::to_owned).collect();
    let word = one(rng, words);
    parts[at] = match rng.u8(..4) {
        0 => format!("{}{word}", parts[at]),
        1 => word.repeat([2, 30, 300][rng.usize(..3)]),
        _ => (*word).to_owned(),
    };
    parts.join("\"")
}

/// A number as WebAssembly writes it.
pub(crate) fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

//! The bytes that broken packages are made of.

use std::fmt::Write as _;

use clawhold_test_support::guest::component_of;

/// The manifest of `guests/good` 1.0.0.
pub(super) fn about() -> String {
    "[package]\nname = \"guests/good\"\nversion = \"1.0.0\"\ndescription = \"Says yes\"\nlicense = \"MIT\"\n".to_owned()
}

/// A component that answers `yes`, without a manifest.
pub(super) fn good() -> Vec<u8> {
    component_of("good", "(func $run (result i32) (call $yes))").unwrap()
}

/// A component whose `describe` gives these skills: name, description, schemas of input and output.
pub(super) fn describing(skills: &[[&str; 4]]) -> Vec<u8> {
    // Above the heap that the guest begins with: nothing is allocated before.
    const AT: usize = 1 << 20;
    let (mut words, mut strings) = (Vec::new(), Vec::new());
    let strings_at = AT + 8 + skills.len() * 32;
    for text in skills.iter().flatten() {
        words.extend([strings_at + strings.len(), text.len()]);
        strings.extend(text.bytes());
    }
    let list = [AT + 8, skills.len()].into_iter().chain(words);
    let mut data: Vec<u8> = list.flat_map(|word| u32::try_from(word).unwrap().to_le_bytes()).collect();
    data.extend(strings);
    let pages = (AT + data.len()).div_ceil(1 << 16);
    let escaped = data.iter().fold(String::new(), |mut text, byte| {
        let _strings_take_all = write!(text, "\\{byte:02x}");
        text
    });
    let text = format!(
        "(memory (export \"memory\") {pages})\n(data (i32.const {AT}) \"{escaped}\")\n\
         (func $run (result i32) (call $yes))\n\
         (func (export \"clawhold:skill/handler@0.1.0#describe\") (result i32) (i32.const {AT}))"
    );
    component_of("good", &text).unwrap()
}

/// A file in the form of gzip (RFC 1952), of 1 MB, that unpacks to 200 MB of zeroes.
pub(super) fn bomb() -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let (mut bits, mut count) = (0_u64, 0);
    let mut put = |file: &mut Vec<u8>, value: u64, size: u32| {
        bits |= value << count;
        count += size;
        while count >= 8 {
            file.push((bits & 0xff) as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    // One block of fixed codes (RFC 1951): a zero, and then 258 bytes more of what was there one byte before, again and again.
    put(&mut file, 0b011, 3);
    put(&mut file, 0b0000_1100, 8);
    for _ in 0..200_000_000 / 258 {
        // The codes are written from their first bit on: 285 is 11000101, and the distance of one is 00000.
        put(&mut file, 0b1010_0011, 8);
        put(&mut file, 0, 5);
    }
    put(&mut file, 0, 7);
    put(&mut file, 0, 7);
    file
}

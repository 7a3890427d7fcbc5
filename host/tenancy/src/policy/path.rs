//! Paths of requests, and patterns that they match.

pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

/// Whether a server that decodes the path once could see `.` or `..` as a segment. The URL parser has already
/// resolved the plain ones.
pub(super) fn dot_segments(path: &str) -> bool {
    if !path.contains(['%', '\\']) {
        return false;
    }
    let decoded: Vec<u8> = percent_decode(path);
    decoded.split(|b| matches!(b, b'/' | b'\\')).any(|segment| segment == b"." || segment == b"..")
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

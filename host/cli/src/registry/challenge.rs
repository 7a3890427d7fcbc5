//! `WWW-Authenticate`: how a registry wants to be asked.

/// A way of authentication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With user and password at each request.
    Basic,
    /// With a token that is to be had elsewhere.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads the first challenge of a field.
    pub(super) fn parse(field: &str) -> Option<Self> {
        let (scheme, parameters) = field.split_once(' ').unwrap_or((field, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in Parameters(parameters) {
            match name {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?.to_owned(), service: service.map(ToOwned::to_owned) })
    }
}

/// `name="value"` and `name=value` with commas between. A value in quotes may hold commas, and none that we read holds a
/// quote.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.trim_start_matches([' ', ',']).split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_where_tokens_are() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(ToOwned::to_owned) })
        };
        for (field, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/t\",service=\"a b\",scope=\"repository:x:pull,push\"",
                bearer("https://a/t", Some("a b")),
            ),
            ("bearer scope=\"a,b\", realm=\"https://a/t\"", bearer("https://a/t", None)),
            ("Bearer realm=https://a/t,service=a", bearer("https://a/t", Some("a"))),
            ("Bearer service=\"a\"", None),
            ("Bearer realm=\"https://a", None),
            ("Digest realm=\"x\"", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(field), expected, "{field}");
        }
    }
}

//! One definition per type: the struct people use, its defaults, and how it is read from a document.

/// Declares structs whose fields are those of a schema.
///
/// * `strict struct`: an unknown field is a complaint (Istio). `slim struct`: fields we do not model
///   are passed over (Kubernetes' core kinds, whose schemas are far larger than what a mesh reads).
/// * A field is written in snake case and read in camel case; `as "clusterIP"` names it where the
///   schema does not follow that rule.
/// * `= value` is the default of an absent field; without it, the type's own default.
/// * `..["a", "b"]` at the end lists fields of the schema that are accepted and not acted upon.
macro_rules! schema {
    ($(
        $(#[$meta:meta])*
        $mode:ident struct $name:ident {
            $( $(#[$fmeta:meta])* $field:ident $(as $key:literal)? : $ty:ty $(= $default:expr)?, )*
            $(..[$($extra:literal),* $(,)?])?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: schema!(@default $($default)?), )* }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(at: &$crate::decode::At<'_>) -> Self {
                const FIELDS: &[&str] = &[$( schema!(@key $field $($key)?) ),*];
                const ACCEPTED: &[&str] = &[$($($extra),*)?];
                if !at.is_mapping(FIELDS, ACCEPTED, schema!(@strict $mode)) {
                    return Self::default();
                }
                Self {
                    $( $field: at
                        .read(schema!(@key $field $($key)?))
                        .unwrap_or_else(|| schema!(@default $($default)?)), )*
                }
            }
        }
    )*};
    (@strict strict) => { true };
    (@strict slim) => { false };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => {{
        const SNAKE: &str = stringify!($field);
        const CAMEL: [u8; $crate::schema::camel_len(SNAKE)] = $crate::schema::camel(SNAKE);
        match std::str::from_utf8(&CAMEL) {
            Ok(key) => key,
            // Evaluated while compiling: identifiers are text.
            Err(_) => panic!(),
        }
    }};
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

/// Declares an enum whose values are written as the given texts; the first is the default.
macro_rules! choice {
    ($(
        $(#[$meta:meta])*
        enum $name:ident {
            $(#[$fmeta:meta])* $first:ident = $first_text:literal
            $(, $(#[$vmeta:meta])* $variant:ident = $text:literal )* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub enum $name {
            $(#[$fmeta])* #[default] $first,
            $( $(#[$vmeta])* $variant, )*
        }

        impl $name {
            /// As it is written in a document.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $( Self::$variant => $text, )*
                }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(at: &$crate::decode::At<'_>) -> Self {
                at.choice(&[($first_text, Self::$first) $(, ($text, Self::$variant))*])
            }
        }
    )*};
}

/// Bytes of a field's name in camel case.
pub(crate) const fn camel_len(snake: &str) -> usize {
    let bytes = snake.as_bytes();
    let (mut at, mut length) = (raw_prefix(bytes), 0);
    while at < bytes.len() {
        if bytes[at] != b'_' {
            length += 1;
        }
        at += 1;
    }
    length
}

/// A field's name in camel case: `http1_max` is `http1Max`, `r#match` is `match`.
pub(crate) const fn camel<const N: usize>(snake: &str) -> [u8; N] {
    let bytes = snake.as_bytes();
    let (mut at, mut to, mut upper) = (raw_prefix(bytes), 0, false);
    let mut camel = [0; N];
    while at < bytes.len() {
        if bytes[at] == b'_' {
            upper = true;
        } else {
            camel[to] = if upper { bytes[at].to_ascii_uppercase() } else { bytes[at] };
            upper = false;
            to += 1;
        }
        at += 1;
    }
    camel
}

/// Bytes of `r#`, if it is there.
const fn raw_prefix(bytes: &[u8]) -> usize {
    if bytes.len() > 2 && bytes[0] == b'r' && bytes[1] == b'#' { 2 } else { 0 }
}

pub(crate) use {choice, schema};

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_named_in_camel_case() {
        assert_eq!(schema!(@key r#match), "match");
        assert_eq!(schema!(@key http1_max_pending_requests), "http1MaxPendingRequests");
        assert_eq!(schema!(@key consecutive_5xx_errors), "consecutive5xxErrors");
        assert_eq!(schema!(@key pod_ip "podIP"), "podIP");
    }
}

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
    )*};
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
    )*};
}

pub(crate) use {choice, schema};

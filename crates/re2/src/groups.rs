//! Named classes: Perl's (`\d`), POSIX's (`[:alpha:]`) and Unicode's (`\p{Greek}`), as far as they reach into Latin-1.
//!
//! Names are RE2's: general categories by their short name, scripts of Unicode 15 by their long one, nothing else.

use super::bytes::ByteSet;

/// The class of a Perl escape letter, `d`, `s` or `w` and their capitals.
pub(super) fn perl(letter: u8, fold: bool) -> Option<ByteSet> {
    let ranges: &[(u8, u8)] = match letter.to_ascii_lowercase() {
        b'd' => &[(b'0', b'9')],
        // Without vertical tab, unlike [:space:].
        b's' => &[(b'\t', b'\n'), (0x0C, b'\r'), (b' ', b' ')],
        b'w' => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        _ => return None,
    };
    Some(finish(ByteSet::of(ranges), fold, letter.is_ascii_uppercase()))
}

/// The class of a POSIX name, `alpha` or `^alpha`.
pub(super) fn posix(name: &[u8], fold: bool) -> Option<ByteSet> {
    let (negated, name) = match name.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let ranges: &[(u8, u8)] = match name {
        b"alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        b"alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        b"ascii" => &[(0, 0x7F)],
        b"blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        b"cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        b"digit" => &[(b'0', b'9')],
        b"graph" => &[(b'!', b'~')],
        b"lower" => &[(b'a', b'z')],
        b"print" => &[(b' ', b'~')],
        b"punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        b"space" => &[(b'\t', b'\r'), (b' ', b' ')],
        b"upper" => &[(b'A', b'Z')],
        b"word" => &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
        b"xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    };
    Some(finish(ByteSet::of(ranges), fold, negated))
}

/// The class of a Unicode name, `L` or `Greek`; `negated` for `\P` and `^`.
pub(super) fn unicode(name: &str, fold: bool, negated: bool) -> Option<ByteSet> {
    let set = ByteSet::of(latin1_part(name)?);
    Some(finish(set, fold, negated))
}

/// RE2 folds first and negates afterwards.
fn finish(set: ByteSet, fold: bool, negated: bool) -> ByteSet {
    let set = if fold { set.folded() } else { set };
    if negated { set.negated() } else { set }
}

fn latin1_part(name: &str) -> Option<&'static [(u8, u8)]> {
    Some(match name {
        "Any" => &[(0, 0xFF)],
        "C" => &[(0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD)],
        "Cc" => &[(0x00, 0x1F), (0x7F, 0x9F)],
        "Cf" => &[(0xAD, 0xAD)],
        "L" | "Latin" if name == "Latin" => LATIN,
        "L" => &[
            (b'A', b'Z'),
            (b'a', b'z'),
            (0xAA, 0xAA),
            (0xB5, 0xB5),
            (0xBA, 0xBA),
            (0xC0, 0xD6),
            (0xD8, 0xF6),
            (0xF8, 0xFF),
        ],
        "Ll" => &[(b'a', b'z'), (0xB5, 0xB5), (0xDF, 0xF6), (0xF8, 0xFF)],
        "Lo" => &[(0xAA, 0xAA), (0xBA, 0xBA)],
        "Lu" => &[(b'A', b'Z'), (0xC0, 0xD6), (0xD8, 0xDE)],
        "N" => &[(b'0', b'9'), (0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE)],
        "Nd" => &[(b'0', b'9')],
        "No" => &[(0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE)],
        "P" => &[
            (0x21, 0x23),
            (0x25, 0x2A),
            (0x2C, 0x2F),
            (0x3A, 0x3B),
            (0x3F, 0x40),
            (0x5B, 0x5D),
            (0x5F, 0x5F),
            (0x7B, 0x7B),
            (0x7D, 0x7D),
            (0xA1, 0xA1),
            (0xA7, 0xA7),
            (0xAB, 0xAB),
            (0xB6, 0xB7),
            (0xBB, 0xBB),
            (0xBF, 0xBF),
        ],
        "Pc" => &[(0x5F, 0x5F)],
        "Pd" => &[(0x2D, 0x2D)],
        "Pe" => &[(0x29, 0x29), (0x5D, 0x5D), (0x7D, 0x7D)],
        "Pf" => &[(0xBB, 0xBB)],
        "Pi" => &[(0xAB, 0xAB)],
        "Po" => &[
            (0x21, 0x23),
            (0x25, 0x27),
            (0x2A, 0x2A),
            (0x2C, 0x2C),
            (0x2E, 0x2F),
            (0x3A, 0x3B),
            (0x3F, 0x40),
            (0x5C, 0x5C),
            (0xA1, 0xA1),
            (0xA7, 0xA7),
            (0xB6, 0xB7),
            (0xBF, 0xBF),
        ],
        "Ps" => &[(0x28, 0x28), (0x5B, 0x5B), (0x7B, 0x7B)],
        "S" => &[
            (0x24, 0x24),
            (0x2B, 0x2B),
            (0x3C, 0x3E),
            (0x5E, 0x5E),
            (0x60, 0x60),
            (0x7C, 0x7C),
            (0x7E, 0x7E),
            (0xA2, 0xA6),
            (0xA8, 0xA9),
            (0xAC, 0xAC),
            (0xAE, 0xB1),
            (0xB4, 0xB4),
            (0xB8, 0xB8),
            (0xD7, 0xD7),
            (0xF7, 0xF7),
        ],
        "Sc" => &[(0x24, 0x24), (0xA2, 0xA5)],
        "Sk" => &[(0x5E, 0x5E), (0x60, 0x60), (0xA8, 0xA8), (0xAF, 0xAF), (0xB4, 0xB4), (0xB8, 0xB8)],
        "Sm" => &[
            (0x2B, 0x2B),
            (0x3C, 0x3E),
            (0x7C, 0x7C),
            (0x7E, 0x7E),
            (0xAC, 0xAC),
            (0xB1, 0xB1),
            (0xD7, 0xD7),
            (0xF7, 0xF7),
        ],
        "So" => &[(0xA6, 0xA6), (0xA9, 0xA9), (0xAE, 0xAE), (0xB0, 0xB0)],
        "Z" | "Zs" => &[(0x20, 0x20), (0xA0, 0xA0)],
        "Latin" => LATIN,
        "Common" => COMMON,
        "Co" | "Cs" | "Lm" | "Lt" | "M" | "Mc" | "Me" | "Mn" | "Nl" | "Zl" | "Zp" => &[],
        _ if SCRIPTS_BEYOND_LATIN1.binary_search(&name).is_ok() => &[],
        _ => return None,
    })
}

const LATIN: &[(u8, u8)] =
    &[(b'A', b'Z'), (b'a', b'z'), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0xFF)];

/// Whatever in Latin-1 is not Latin, the micro sign included.
const COMMON: &[(u8, u8)] =
    &[(0x00, 0x40), (0x5B, 0x60), (0x7B, 0xA9), (0xAB, 0xB9), (0xBB, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7)];

/// The other scripts of Unicode 15: known by name, empty below U+0100. Sorted.
#[rustfmt::skip]
const SCRIPTS_BEYOND_LATIN1: &[&str] = &[
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum",
    "Bassa_Vah", "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid",
    "Canadian_Aboriginal", "Carian", "Caucasian_Albanian", "Chakma", "Cham", "Cherokee", "Chorasmian",
    "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan", "Cyrillic", "Deseret", "Devanagari",
    "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs", "Elbasan", "Elymaic", "Ethiopic",
    "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati", "Gunjala_Gondi", "Gurmukhi",
    "Han", "Hangul", "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew", "Hiragana", "Imperial_Aramaic",
    "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese", "Kaithi", "Kannada",
    "Katakana", "Kawi", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki", "Khudawadi",
    "Lao", "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar",
    "Malayalam", "Mandaic", "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek",
    "Mende_Kikakui", "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro",
    "Multani", "Myanmar", "Nabataean", "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa", "Nko",
    "Nushu", "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian", "Old_Italic",
    "Old_North_Arabian", "Old_Permic", "Old_Persian", "Old_Sogdian", "Old_South_Arabian", "Old_Turkic",
    "Old_Uyghur", "Oriya", "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau", "Phags_Pa",
    "Phoenician", "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan", "Saurashtra", "Sharada", "Shavian",
    "Siddham", "SignWriting", "Sinhala", "Sogdian", "Sora_Sompeng", "Soyombo", "Sundanese",
    "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil",
    "Tangsa", "Tangut", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto",
    "Ugaritic", "Vai", "Vithkuqi", "Wancho", "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square"
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_names_are_sorted_for_the_binary_search() {
        assert!(SCRIPTS_BEYOND_LATIN1.is_sorted());
    }

    #[test]
    fn latin_and_common_are_all_there_is() {
        let mut all = ByteSet::of(LATIN);
        all.union(&ByteSet::of(COMMON));
        assert!(all == ByteSet::ALL);
    }
}

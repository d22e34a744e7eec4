//! The patterns: written by hand where engines are known to differ, classes tried on every byte, and generated ones.

use super::Case;

/// Values tried on every written and generated pattern, beside those of its own.
#[rustfmt::skip]
const VALUES: &[&[u8]] = &[
    b"", b"a", b"A", b"b", b"k", b"K", b"ab", b"aB", b"abc", b"aaa", b"0", b"12", b"_", b"-", b"a-b", b"a b", b"x\ty",
    b"/", b"/a", b"/a/b", b"/api/v1/users", b"/api/v1/users/42", b"/static/app.js", b"/A", b"/a.b", b"/a%20b", b"/a//b",
    "é".as_bytes(), "É".as_bytes(), b"\xe9", b"\xc9", b"\xff", b"\x80", b"\xb5", b"\xdf", "ſ".as_bytes(),
    "日本".as_bytes(), b"\xed\xa0\x80", b"\xc0\xaf", b"a{,5}", b"a{01}", b"[:alpha:]", b"]", b"^", b"$", b"\\", b".",
    b"www.example.com", b"user@example.com", b"10.0.0.1", b"2001:db8::1", b"Mozilla/5.0 (X11; Linux x86_64)",
];

/// Hand-written patterns: what people write, and what tells RE2 from other engines.
#[rustfmt::skip]
const WRITTEN: &[&str] = &[
    // Everyday routing.
    "/", "/.*", "/api/.*", "/api/v[0-9]+/.*", "/api/v\\d+/users(/\\d+)?", "/(a|b|c)", "/static/.+\\.(js|css|png)",
    "^/api/v1/users/[^/]+$", "^(.*?;)?(user=jason)(;.*)?$", ".*Mozilla.*", "([a-z0-9-]+\\.)*example\\.com",
    "[^@]+@[^@]+", "(?i)www\\.EXAMPLE\\.com", "\\d{1,3}(\\.\\d{1,3}){3}", "[0-9a-fA-F:]+", "/[a-z]+(-[a-z]+)*", ".+", ".*",
    ".", "..", "...", "", " ", "a", "ab", "a|ab", "ab|a", "a||b", "|a", "a|", "|", "()", "(|)", "(|a)+", "(a|b)*?", "(a*)*",
    "(a*)+", "(a+)*b?", "((a))", "(?:a)", "(?:)", "a?", "a??", "a*?", "a+?", "a{2}", "a{2,}", "a{2,3}", "a{0}", "a{0,0}b",
    "a{0,1}", "a{3}?", "(ab){1,2}c?",
    // Braces that are no repetition.
    "a{", "a{}", "a{,5}", "a{,}", "a{x}", "a{1", "a{1,", "a{1,x}", "a{01}", "a{1,02}", "{", "}", "{1}", "a}", "a{ 1}",
    "a{99999999999}",
    // Repetition: sizes, stacking, nothing to repeat.
    "a{1000}", "a{1001}", "a{0,1000}", "a{0,1001}", "a{5,2}", "a{1000,1001}", "(a{10}){100}", "(a{10}){101}",
    "((a{10}){10}){10}", "((a{10}){10}){11}", "(a{2,}){500}", "(a{2,}){501}", "(a{0,1}){1000}", "(a*){1000}", "(a{0}){1000}",
    "(?:a{100}|b){10}", "(?:a{100}|b){11}", "a**", "a*+", "a+*", "a?*", "a{2}{3}", "a{2}*", "a*{2}", "a*??", "a+++", "*",
    "+", "?", "*a", "(*a)", "|*", "(|*)", "a|*", "^*", "$*", "^+a", "\\b*a", "\\B+", "(?i)*", "a(?i)*", "a*(?i)*", "{2}a",
    "(?:)*", "()*",
    // Groups and flags.
    "(a", "a)", "(a))", "((a)", ")(", "(?", "(?a", "(?:a", "(?i", "(?i)", "(?i)a", "(?I)a", "(?i:a)b", "(?i:a", "(?-i)a",
    "(?i-i)a", "(?i-)a", "(?-)a", "(?--i)a", "(?i-s-m)a", "(?s).", "(?s:.)+", "(?m)^a$", "(?m)a$", "(?U)a+", "(?U:a*?)b?",
    "(?x) a", "(?u)a", "(?ims)A.", "(?is-mU)a", "(?)a", "a(?i)b", "(a(?i)b)c", "(?i)a(?-i)b", "(?i)(a|(?-i)b)C",
    "(?P<n>a)", "(?<n>a)", "(?P<n>a)(?P<n>b)", "(?P<n>a)(?P<m>b)", "(?P<>a)", "(?P<n a", "(?P<n-m>a)", "(?P<1>a)", "(?P<_>a)",
    "(?P<é>a)", "(?P<ê>a)", "(?P<n", "(?P<n>", "(?P=n)", "(?P>n)", "(?P", "(?P<n>a)(?P=n)", "(?'n'a)", "(?<n", "(?<>a)",
    // What RE2 leaves to others.
    "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "a(?=b)b", "a(?!b)", "(?>a)", "(?#comment)", "(?|a)", "(?R)", "(?1)", "(?(1)a)",
    "a++", "a*+b", "\\1", "(a)\\1", "(a)\\2", "\\8", "\\9", "\\10", "\\g1", "\\k<n>", "\\G", "\\K", "\\X", "\\R", "\\h", "\\H",
    "\\N", "\\Z", "\\<", "\\>", "\\u0041", "\\U0041", "\\cA", "\\e", "\\o{101}", "\\L", "\\l", "\\y", "\\E", "\\i",
    // Escapes.
    "\\", "a\\", "\\\\", "\\.", "\\/", "\\-", "\\_", "\\ ", "\\@", "\\%", "\\~", "\\\"", "\\é", "\\ÿ", "\\a", "\\f", "\\t", "\\n",
    "\\r", "\\v", "x\\ty", "\\0", "\\00", "\\012", "\\12", "\\101", "\\377", "\\400", "\\777", "\\1a", "\\7", "\\07", "\\018",
    "\\x41", "\\x4", "\\x", "\\xg1", "\\x{41}", "\\x{0041}", "\\x{e9}", "\\x{E9}", "\\x{ff}", "\\x{100}", "\\x{10FFFF}",
    "\\x{}", "\\x{41", "\\x{4g}", "\\xe9", "\\xff", "\\A", "\\Aa\\z", "\\z", "a\\z", "\\Qa.b\\E", "\\Q\\E", "\\Qa", "\\Qab\\E+",
    "\\Q(\\E", "\\Qa\\Eb", "\\Q\\Q\\E", "\\Qa\\\\E", "\\Q*\\E*", "\\C", "\\C\\C", "\\C*", "\\C+a?", "(?i)\\Qa\\E",
    // Word boundaries are ASCII's.
    "\\ba\\b", "\\Ba", "a\\B", "a\\b.b", "\\b", "\\B", "\\b.*\\b", "é\\b", "\\bé", "\\Bé\\B", ".\\B.", "(?:\\b|a)+",
    // Anchors anywhere.
    "^", "$", "^$", "^a$", "a^b", "a$b", "^^a$$", "(^a)", "(a$)", "a(?:$|b)", "(?:^|a)b", "(^)*a", "(?m:^)a(?m:$)",
    "(?m)^$",
    // Brackets.
    "[a]", "[ab]", "[a-c]", "[^a]", "[^a-c]+", "[]]", "[]a]+", "[^]]", "[]", "[^]", "[a", "[a-", "[a-]", "[-a]", "[a-c-e]",
    "[a-c-]", "[--a]", "[---]", "[z-a]", "[a-a]", "[\\d]", "[\\d-z]", "[a-\\d]", "[\\w.]+", "[^\\w]", "[\\D]", "[\\W\\w]", "[^\\W\\w]",
    "[\\s\\S]", "[.]", "[*+?]", "[(]", "[)]", "[|]", "[$]", "[\\^]", "[^^]", "[[]", "[[a]", "[[]]", "[\\[\\]]", "[\\]]", "[\\\\]",
    "[\\b]", "[\\B]", "[\\A]", "[\\z]", "[\\Qa\\E]", "[\\C]", "[\\x41-\\x43]", "[\\x{e0}-\\x{ff}]", "[\\x{100}]", "[\\101]", "[\\n]",
    "[a&&b]", "[a--b]", "[a~~b]", "[[:alpha:]]", "[[:^alpha:]]", "[^[:alpha:]]", "[[:foo:]]", "[[:alpha:]", "[:alpha:]",
    "[[:alpha]", "[[:alpha:]-z]", "[a-[:alpha:]]", "[[:alpha:][:digit:]_]+", "[[:Alpha:]]", "[[: alpha:]]", "[[:]]",
    "[[.a.]]", "[[=a=]]", "[é]", "[^é]", "[é-ÿ]", "[a-é]", "[日]", "[日本]+", "[^日]", "[\\pL]", "[\\p{Lu}\\d]+", "[^\\pL]",
    "[\\PL]", "[\\p]", "[\\p{L]", "[a-\\pL]", "[\\pL-z]", "(?i)[a-c]+", "(?i)[^a]", "(?i)[k]", "(?i)[K-L]", "(?i)[\\xe0-\\xe9]",
    // Unicode names.
    "\\pL", "\\PL", "\\p{L}", "\\p{^L}", "\\P{^L}", "\\P{L}", "\\p", "\\p{", "\\p{}", "\\p{^}", "\\pX", "\\p{X}", "\\pLu", "\\p{Lu}",
    "\\p{lu}", "\\p{LU}", "\\p{L&}", "\\p{LC}", "\\p{Letter}", "\\p{Uppercase}", "\\p{Alphabetic}", "\\p{gc=Lu}", "\\p{Script=Greek}",
    "\\p{sc=Greek}", "\\p{IsGreek}", "\\p{InGreek}", "\\p{Greek}", "\\p{greek}", "\\p{Grek}", "\\p{Latin}+", "\\p{Common}", "\\p{Han}",
    "\\p{Any}", "\\P{Any}", "\\p{^Any}", "\\p{any}", "\\p{Assigned}", "\\p{ASCII}", "\\p{Cn}", "\\p{Unknown}", "\\p{Zzzz}",
    "\\p{Old_Italic}", "\\p{OldItalic}", "\\p{Old Italic}", "\\p{SignWriting}", "\\p{Nko}", "\\p{Phags_Pa}", "\\p{Kawi}",
    "\\p{Nag_Mundari}", "\\p{Garay}", "\\p{Todhri}", "\\p{Braille}", "\\p{Emoji}", "\\p{é}", "\\pé",
    // Bytes: a character is a byte.
    "é", "é+", "(é)+", "é?", "É", "(?i)é", "(?i)É", "(?i)ÿ", "日本", "日.*", ".é", "[^é]é", "..é?", "\\xc3\\xa9", "Ã©", "(?i)Ã©",
    "\\x{c3}.", "ſ", "(?i)s", "(?i)k", "(?i)ſ", "(?i)K", "(?i)ß", "(?i)ẞ", "(?i)\\xb5", "(?i)\\xdf", "(?i)\\xff",
    // Sizes.
    "(?:a?){50}a{50}", "(a+)+b", "([a-zA-Z]+)*$", "(.*)(.*)(.*)(.*)[^a]", "(a|a|a|a)+", "\\w{1000}", "(?:\\w{10}){100}",
    "[a-z]{1,64}(\\.[a-z]{1,64}){0,8}", "(\\pL{30}){33}",
];

/// Classes, each tried on every byte that a header can carry.
#[rustfmt::skip]
const CLASSES: &[&str] = &[
    ".", "(?s).", "\\C", "\\d", "\\D", "\\s", "\\S", "\\w", "\\W", "(?i)\\w", "(?i)\\W", "[[:alnum:]]", "[[:alpha:]]", "[[:ascii:]]",
    "[[:blank:]]", "[[:cntrl:]]", "[[:digit:]]", "[[:graph:]]", "[[:lower:]]", "[[:print:]]", "[[:punct:]]", "[[:space:]]",
    "[[:upper:]]", "[[:word:]]", "[[:xdigit:]]", "[[:^lower:]]", "(?i)[[:upper:]]", "(?i)[[:^lower:]]", "\\pC", "\\p{Cc}", "\\p{Cf}",
    "\\pL", "\\p{Ll}", "\\p{Lu}", "\\p{Lt}", "\\p{Lo}", "\\p{Lm}", "\\pM", "\\pN", "\\p{Nd}", "\\p{Nl}", "\\p{No}", "\\pP", "\\p{Pc}", "\\p{Pd}",
    "\\p{Pe}", "\\p{Pf}", "\\p{Pi}", "\\p{Po}", "\\p{Ps}", "\\pS", "\\p{Sc}", "\\p{Sk}", "\\p{Sm}", "\\p{So}", "\\pZ", "\\p{Zs}", "\\p{Zl}",
    "\\p{Latin}", "\\p{Common}", "\\p{Greek}", "\\p{Inherited}", "\\p{Any}", "\\PL", "\\P{Common}", "(?i)\\p{Lu}", "(?i)\\p{Ll}",
    "(?i)\\p{Lt}", "(?i)\\P{Lu}", "(?i)\\p{Greek}", "(?i)\\P{Greek}", "(?i)\\p{Latin}", "(?i)\\p{Common}", "(?i)\\p{Cyrillic}",
    "(?i)[^\\p{Lu}]", "(?i)[\\P{Ll}]", "(?i)k", "(?i)s", "(?i)\\xe5", "(?i)\\xb5", "(?i)\\xdf", "(?i)\\xff", "(?i)\\xd7", "(?i)\\xf7",
    "(?i)[^k]", "(?i)[a-z]", "(?i)[\\xc0-\\xde]", "[^\\x{80}-\\x{ff}]", "\\b.", ".\\b", "\\B.", ".\\B", "\\b.\\B", "\\B.\\b",
];

/// Scripts and categories beyond those tried above, for their names alone.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum",
    "Bassa_Vah", "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid",
    "Canadian_Aboriginal", "Carian", "Caucasian_Albanian", "Chakma", "Cham", "Cherokee", "Chorasmian",
    "Common", "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan", "Cyrillic", "Deseret", "Devanagari",
    "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs", "Elbasan", "Elymaic", "Ethiopic", "Georgian",
    "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati", "Gunjala_Gondi", "Gurmukhi", "Han", "Hangul",
    "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew", "Hiragana", "Imperial_Aramaic", "Inherited",
    "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese", "Kaithi", "Kannada", "Katakana", "Kawi",
    "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki", "Khudawadi", "Lao", "Latin",
    "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar",
    "Malayalam", "Mandaic", "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek",
    "Mende_Kikakui", "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro",
    "Multani", "Myanmar", "Nabataean", "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu",
    "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian", "Old_Italic", "Old_North_Arabian",
    "Old_Permic", "Old_Persian", "Old_Sogdian", "Old_South_Arabian", "Old_Turkic", "Old_Uyghur", "Oriya",
    "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau", "Phags_Pa", "Phoenician",
    "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan", "Saurashtra", "Sharada", "Shavian", "Siddham",
    "SignWriting", "Sinhala", "Sogdian", "Sora_Sompeng", "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac",
    "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu",
    "Thaana", "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai", "Vithkuqi", "Wancho",
    "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square", "Any", "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm",
    "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po",
    "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

pub fn written() -> Vec<Case> {
    let mut all: Vec<Case> = WRITTEN.iter().map(|p| with_values(p)).collect();
    all.extend(NAMES.iter().map(|name| with_values(&format!("\\p{{{name}}}"))));
    // Too large to write out. (Between these sizes lies what RE2 counts a little differently.)
    all.push(with_values(&"a".repeat(30_000)));
    all.push(with_values(&"a".repeat(40_000)));
    all.push(with_values(&"\\pL{1000}".repeat(4)));
    all.push(with_values(&"\\pL{1000}".repeat(5)));
    all.push(with_values(&format!("{}a{}", "(".repeat(60), ")".repeat(60))));
    all.push(with_values(&format!("{}a{}", "(?:b|".repeat(60), ")*".repeat(60))));
    all
}

pub fn classes() -> Vec<Case> {
    let bytes = || (0x09..=0xFF).map(|b| vec![b]).collect();
    CLASSES.iter().map(|p| Case { pattern: (*p).to_owned(), values: bytes() }).collect()
}

fn with_values(pattern: &str) -> Case {
    let mut values: Vec<Vec<u8>> = VALUES.iter().map(|v| v.to_vec()).collect();
    // Often a pattern almost matches its own text.
    values.push(pattern.bytes().take(2000).collect());
    Case { pattern: pattern.to_owned(), values }
}

// === generated

/// How many patterns are generated.
const GENERATED: usize = 400;

/// Pieces that generated patterns are strung together from.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "a", "b", "k", "K", "1", "_", "-", " ", "/", ".", "é", "\\d", "\\w", "\\W", "\\s", "\\pL", "\\p{Lu}", "\\x61", "\\.", "\\b", "\\B",
    "^", "$", "[ab]", "[^a]", "[a-k]", "[\\w-]", "[[:alpha:]]", "(a|b)", "(?:ab)", "(?i:a)", "(?i)", "(?-i)", "(a", ")", "|", "*", "+",
    "?", "*?", "{2}", "{1,3}", "{0,2}", "\\Qa+\\E", "(?P<n>a)", "\\C", "(?s:.)",
];

const ALPHABET: &[&str] = &["a", "b", "k", "A", "K", "1", "_", "-", " ", "/", ".", "é", "\u{ff}", "+"];

/// A small deterministic generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn string(&mut self, from: &[&str], longest: usize) -> String {
        (0..self.roll(longest + 1)).map(|_| from[self.roll(from.len())]).collect()
    }
}

pub fn generated() -> Vec<Case> {
    let mut dice = Dice(20_261_121);
    (0..GENERATED)
        .map(|_| {
            let pattern = format!("{}{}", PIECES[dice.roll(PIECES.len())], dice.string(PIECES, 5));
            let values = (0..24).map(|_| dice.string(ALPHABET, 4).into_bytes()).collect();
            Case { pattern, values }
        })
        .collect()
}

//! RE2's grammar, read the way RE2 reads it, written as what the `regex` crate understands the same way.
//!
//! Each piece is finished when its last character is read: its text, its size as an RE2 program and the product
//! of its nested counts, so no tree is kept and nothing recurses.

use super::bytes::{ByteSet, other_case};
use super::{NESTING_MAX, PATTERN_BYTES_MAX, PatternError as E, groups};

/// RE2's bound on a count, and on the product of nested counts.
const REPEAT_MAX: u32 = 1000;

/// RE2 stops reading a count here and takes the brace as a literal.
const COUNT_DIGITS_BOUND: u32 = 100_000_000;

/// Instructions every program has: fail, match, and the unanchored loop in front.
const PROGRAM_FRAME: u32 = 4;

/// A pattern, read.
#[derive(Debug)]
pub(super) struct Parsed {
    /// In the syntax of the `regex` crate without Unicode.
    pub(super) text: String,
    /// About how many instructions RE2 makes of it.
    pub(super) program_size: u32,
    /// How many groups capture.
    pub(super) groups: u32,
}

/// A finished piece of pattern: an atom, a group, or a repetition.
struct Piece {
    text: String,
    size: u32,
    /// Product of the counts nested in it, as RE2 multiplies them.
    repeats: u32,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    ungreedy: bool,
}

/// A group that is being read; the outermost is the pattern itself.
struct Group {
    captures: bool,
    /// Flags to return to when it closes.
    outer: Flags,
    /// Alternatives already closed by `|`.
    done: Vec<Piece>,
    /// Pieces of the alternative being read.
    open: Vec<Piece>,
}

struct Parser<'a> {
    source: &'a [u8],
    /// Keep groups and greed, which only a replacement asks for.
    for_rewriting: bool,
    at: usize,
    /// Capturing groups so far.
    groups_seen: u32,
    flags: Flags,
    groups: Vec<Group>,
    innermost: Group,
}

/// Reads a pattern. `for_rewriting` keeps what only a replacement asks for: groups, and how much a repetition takes.
pub(super) fn parse(pattern: &str, for_rewriting: bool) -> Result<Parsed, E> {
    if pattern.is_empty() {
        return Err(E::Empty);
    }
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(E::TooLong);
    }
    let flags = Flags::default();
    let mut parser = Parser {
        source: pattern.as_bytes(),
        for_rewriting,
        groups_seen: 0,
        at: 0,
        flags,
        groups: Vec::new(),
        innermost: Group { captures: false, outer: flags, done: Vec::new(), open: Vec::new() },
    };
    parser.run()?;
    if !parser.groups.is_empty() {
        return Err(E::MissingParen);
    }
    let whole = parser.innermost.close(false);
    Ok(Parsed {
        text: whole.text,
        program_size: whole.size.saturating_add(PROGRAM_FRAME),
        groups: parser.groups_seen,
    })
}

impl Group {
    fn close(self, for_rewriting: bool) -> Piece {
        let Group { captures, mut done, open, .. } = self;
        done.push(Piece::sequence(open));
        let mut whole = Piece::alternatives(done);
        if captures {
            whole.size = whole.size.saturating_add(2);
            if for_rewriting {
                whole.text = format!("({})", whole.text);
            }
        }
        whole
    }
}

impl Piece {
    fn new(text: impl Into<String>, size: u32) -> Piece {
        Piece { text: text.into(), size, repeats: 1 }
    }

    fn class(set: &ByteSet) -> Piece {
        let mut text = String::new();
        set.emit(&mut text);
        Piece::new(text, set.program_size())
    }

    fn literal(byte: u8, fold: bool) -> Piece {
        let mut set = ByteSet::EMPTY;
        set.add(byte, byte);
        if fold && other_case(byte) != byte { Piece::class(&set.folded()) } else { Piece::class(&set) }
    }

    fn sequence(pieces: Vec<Piece>) -> Piece {
        Piece::join(pieces, "")
    }

    /// Not yet bracketed: `|` binds weakest, and only a group brackets.
    fn alternatives(pieces: Vec<Piece>) -> Piece {
        let single = pieces.len() == 1;
        let joined = Piece::join(pieces, "|");
        if single { joined } else { Piece { text: format!("(?:{})", joined.text), ..joined } }
    }

    fn join(pieces: Vec<Piece>, between: &str) -> Piece {
        let mut joined = Piece::new("", 0);
        for (i, piece) in pieces.into_iter().enumerate() {
            if i > 0 {
                joined.text.push_str(between);
            }
            joined.text.push_str(&piece.text);
            joined.size = joined.size.saturating_add(piece.size);
            joined.repeats = joined.repeats.max(piece.repeats);
        }
        joined
    }

    /// `self{min,max}`; no `max` is no bound. `None` if nested counts multiply beyond [`REPEAT_MAX`].
    fn repeated(self, min: u32, max: Option<u32>) -> Option<Piece> {
        let repeats = self.repeats.saturating_mul(max.unwrap_or(min).max(1));
        if repeats > REPEAT_MAX && (min >= 2 || max.is_some_and(|m| m >= 2)) {
            return None;
        }
        let suffix = match (min, max) {
            (0, None) => "*".to_owned(),
            (1, None) => "+".to_owned(),
            (0, Some(1)) => "?".to_owned(),
            (min, None) => format!("{{{min},}}"),
            (min, Some(max)) => format!("{{{min},{max}}}"),
        };
        // x{2,5} is xx(x(x(x)?)?)?: a copy each, and a branch for each that may be absent.
        let copies = max.unwrap_or(min).max(u32::from(max.is_none()));
        let branches = max.map_or(1, |max| max - min);
        let size = self.size.saturating_mul(copies).saturating_add(branches);
        Some(Piece { text: format!("(?:{}){suffix}", self.text), size, repeats })
    }
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), E> {
        // Where the repetition just read began: RE2 refuses a second one directly after it.
        let mut last_repeat = None;
        while let Some(&byte) = self.source.get(self.at) {
            let began = self.at;
            let mut repeat = None;
            match byte {
                b'(' => self.open()?,
                b')' => self.close()?,
                b'|' => {
                    self.at += 1;
                    let sequence = Piece::sequence(std::mem::take(&mut self.innermost.open));
                    self.innermost.done.push(sequence);
                }
                b'*' | b'+' | b'?' => {
                    self.at += 1;
                    let (min, max) = match byte {
                        b'*' => (0, None),
                        b'+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    repeat = Some(self.repeat(began, last_repeat, min, max)?);
                }
                b'{' => match self.counts() {
                    Some((min, max)) => repeat = Some(self.repeat(began, last_repeat, min, max)?),
                    None => self.literal(),
                },
                b'[' => self.class()?,
                b'\\' => self.escape()?,
                b'.' => self.single(&self.dot()),
                b'^' => self.assertion(if self.flags.multi_line { "(?m:^)" } else { r"\A" }),
                b'$' => self.assertion(if self.flags.multi_line { "(?m:$)" } else { r"\z" }),
                _ => self.literal(),
            }
            last_repeat = repeat;
        }
        Ok(())
    }

    fn push(&mut self, piece: Piece) {
        self.innermost.open.push(piece);
    }

    fn literal(&mut self) {
        let byte = self.source.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        self.push(Piece::literal(byte, self.flags.fold));
    }

    fn single(&mut self, set: &ByteSet) {
        self.at += 1;
        self.push(Piece::class(set));
    }

    fn assertion(&mut self, text: &str) {
        self.at += 1;
        self.push(Piece::new(text, 1));
    }

    fn dot(&self) -> ByteSet {
        if self.flags.dot_newline { ByteSet::ALL } else { ByteSet::of(&[(b'\n', b'\n')]).negated() }
    }

    /// The pattern from `from` up to here, for an error.
    fn since(&self, from: usize) -> String {
        String::from_utf8_lossy(self.source.get(from..self.at.min(self.source.len())).unwrap_or_default())
            .into_owned()
    }

    fn rest(&self) -> &[u8] {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.rest().first() == Some(&byte);
        self.at += usize::from(there);
        there
    }

    // === groups

    fn open(&mut self) -> Result<(), E> {
        if self.rest().starts_with(b"(?") {
            return self.perl_group();
        }
        self.at += 1;
        self.enter(true, self.flags)
    }

    fn enter(&mut self, captures: bool, inner: Flags) -> Result<(), E> {
        if self.groups.len() >= NESTING_MAX {
            return Err(E::TooDeep);
        }
        self.groups_seen += u32::from(captures);
        let group = Group { captures, outer: self.flags, done: Vec::new(), open: Vec::new() };
        self.groups.push(std::mem::replace(&mut self.innermost, group));
        self.flags = inner;
        Ok(())
    }

    fn close(&mut self) -> Result<(), E> {
        self.at += 1;
        let outside = self.groups.pop().ok_or(E::UnexpectedParen)?;
        let group = std::mem::replace(&mut self.innermost, outside);
        self.flags = group.outer;
        self.push(group.close(self.for_rewriting));
        Ok(())
    }

    /// `(?flags)`, `(?flags:...)`, `(?P<name>...)`, `(?<name>...)`.
    fn perl_group(&mut self) -> Result<(), E> {
        let began = self.at;
        for prefix in [&b"(?="[..], b"(?!", b"(?<=", b"(?<!"] {
            if self.rest().starts_with(prefix) {
                self.at += prefix.len();
                return Err(E::PerlOperator(self.since(began)));
            }
        }
        for prefix in [&b"(?P<"[..], b"(?<"] {
            if self.rest().starts_with(prefix) {
                self.at += prefix.len();
                return self.named_group(began);
            }
        }
        self.at += 2;
        let (mut flags, mut negated, mut flag_seen) = (self.flags, false, false);
        loop {
            let Some(&byte) = self.rest().first() else { return Err(E::MissingParen) };
            self.at += 1;
            match byte {
                b'i' => flags.fold = !negated,
                b'm' => flags.multi_line = !negated,
                b's' => flags.dot_newline = !negated,
                b'U' => flags.ungreedy = !negated,
                b'-' if !negated => {
                    negated = true;
                    flag_seen = false;
                    continue;
                }
                b':' | b')' if !negated || flag_seen => {
                    if byte == b':' {
                        return self.enter(false, flags);
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => return Err(E::PerlOperator(self.since(began))),
            }
            flag_seen = true;
        }
    }

    fn named_group(&mut self, began: usize) -> Result<(), E> {
        let length = self.rest().iter().position(|&b| b == b'>');
        let name = self.rest().get(..length.unwrap_or(self.rest().len())).unwrap_or_default();
        // Latin-1 again: what counts as a letter is a letter there.
        let word = |&b: &u8| {
            b.is_ascii_alphanumeric()
                || b == b'_'
                || matches!(b, 0xAA | 0xB5 | 0xBA | 0xC0..=0xD6 | 0xD8..=0xF6 | 0xF8..)
        };
        let good = length.is_some() && !name.is_empty() && name.iter().all(word);
        self.at += name.len() + usize::from(length.is_some());
        if !good {
            return Err(E::GroupName(self.since(began)));
        }
        self.enter(true, self.flags)
    }

    // === repetitions

    /// Applies a repetition whose operator began at `began` and has just been read; returns where it began.
    fn repeat(&mut self, began: usize, last: Option<usize>, min: u32, max: Option<u32>) -> Result<usize, E> {
        // Greed decides where a match ends, and that of a whole value ends where the value does.
        let is_lazy = self.eat(b'?') != self.flags.ungreedy;
        if let Some(last) = last {
            return Err(E::RepeatOperator(self.since(last)));
        }
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return Err(E::RepeatSize(self.since(began)));
        }
        let piece = self.innermost.open.pop().ok_or_else(|| E::RepeatArgument(self.since(began)))?;
        let mut repeated = piece.repeated(min, max).ok_or_else(|| E::RepeatSize(self.since(began)))?;
        if is_lazy && self.for_rewriting {
            repeated.text.push('?');
        }
        self.push(repeated);
        Ok(began)
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else is not read, and the brace is a literal.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let began = self.at;
        let read = self.try_counts();
        if read.is_none() {
            self.at = began;
        }
        read
    }

    fn try_counts(&mut self) -> Option<(u32, Option<u32>)> {
        self.at += 1;
        let min = self.integer()?;
        let max = if !self.eat(b',') {
            Some(min)
        } else if self.rest().first() == Some(&b'}') {
            None
        } else {
            Some(self.integer()?)
        };
        self.eat(b'}').then_some((min, max))
    }

    fn integer(&mut self) -> Option<u32> {
        let digits = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || (digits > 1 && self.rest().first() == Some(&b'0')) {
            return None;
        }
        let mut value = 0_u32;
        for _ in 0..digits {
            if value >= COUNT_DIGITS_BOUND {
                return None;
            }
            value = value * 10 + u32::from(self.rest().first()? - b'0');
            self.at += 1;
        }
        Some(value)
    }

    // === escapes

    fn escape(&mut self) -> Result<(), E> {
        match self.rest().get(1).copied() {
            Some(b'b') => self.two_characters("(?-u:\\b)"),
            Some(b'B') => self.two_characters("(?-u:\\B)"),
            Some(b'A') => self.two_characters(r"\A"),
            Some(b'z') => self.two_characters(r"\z"),
            Some(b'C') => {
                self.at += 1;
                self.single(&ByteSet::ALL);
            }
            Some(b'Q') => self.quoted(),
            _ => {
                if let Some(set) = self.named_class()? {
                    self.push(Piece::class(&set));
                    return Ok(());
                }
                let byte = self.escaped_byte()?;
                self.push(Piece::literal(byte, self.flags.fold));
            }
        }
        Ok(())
    }

    fn two_characters(&mut self, text: &str) {
        self.at += 1;
        self.assertion(text);
    }

    /// `\Q` up to `\E` or the end, all literal.
    fn quoted(&mut self) {
        self.at += 2;
        while !self.rest().is_empty() {
            if self.rest().starts_with(b"\\E") {
                self.at += 2;
                return;
            }
            self.literal();
        }
    }

    /// `\d` and the like, `\pL`, `\p{Greek}`: inside brackets as well as outside.
    fn named_class(&mut self) -> Result<Option<ByteSet>, E> {
        match self.rest() {
            [b'\\', b'p' | b'P', _, ..] => self.unicode_class().map(Some),
            [b'\\', letter, ..] => {
                let set = groups::perl(*letter, self.flags.fold);
                self.at += if set.is_some() { 2 } else { 0 };
                Ok(set)
            }
            _ => Ok(None),
        }
    }

    fn unicode_class(&mut self) -> Result<ByteSet, E> {
        let began = self.at;
        let mut negated = self.rest().get(1) == Some(&b'P');
        self.at += 2;
        let name = if self.eat(b'{') {
            let Some(length) = self.rest().iter().position(|&b| b == b'}') else {
                self.at = self.source.len();
                return Err(E::ClassRange(self.since(began)));
            };
            self.at += length + 1;
            self.source.get(self.at - length - 1..self.at - 1).unwrap_or_default()
        } else {
            self.at += 1;
            self.source.get(self.at - 1..self.at).unwrap_or_default()
        };
        let name = match name.strip_prefix(b"^") {
            Some(rest) => {
                negated = !negated;
                rest
            }
            None => name,
        };
        std::str::from_utf8(name)
            .ok()
            .and_then(|name| groups::unicode(name, self.flags.fold, negated))
            .ok_or_else(|| E::ClassRange(self.since(began)))
    }

    /// `\` and what stands for one byte.
    fn escaped_byte(&mut self) -> Result<u8, E> {
        let began = self.at;
        self.at += 1;
        let Some(&letter) = self.rest().first() else { return Err(E::TrailingBackslash) };
        self.at += 1;
        let byte = match letter {
            b'0' => self.octal(letter),
            b'1'..=b'7' if matches!(self.rest().first(), Some(b'0'..=b'7')) => self.octal(letter),
            b'x' => self.hexadecimal(),
            b'a' => Some(0x07),
            b'f' => Some(0x0C),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(0x0B),
            _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => Some(letter),
            _ => None,
        };
        byte.ok_or_else(|| E::Escape(self.since(began)))
    }

    /// Up to two more octal digits.
    fn octal(&mut self, first: u8) -> Option<u8> {
        let mut value = u32::from(first - b'0');
        for _ in 0..2 {
            let Some(&digit @ b'0'..=b'7') = self.rest().first() else { break };
            value = value * 8 + u32::from(digit - b'0');
            self.at += 1;
        }
        u8::try_from(value).ok()
    }

    /// `7F` or `{7F}`.
    fn hexadecimal(&mut self) -> Option<u8> {
        let braced = self.eat(b'{');
        let mut value = 0_u32;
        let mut digits = 0;
        while let Some(digit) = self.rest().first().and_then(|&b| char::from(b).to_digit(16)) {
            self.at += 1;
            digits += 1;
            value = value * 16 + digit;
            if value > 0xFF {
                return None;
            }
            if !braced && digits == 2 {
                break;
            }
        }
        let complete = if braced { digits > 0 && self.eat(b'}') } else { digits == 2 };
        complete.then(|| u8::try_from(value).ok()).flatten()
    }

    // === brackets

    fn class(&mut self) -> Result<(), E> {
        self.at += 1;
        let negated = self.eat(b'^');
        let mut set = ByteSet::EMPTY;
        let mut first = true;
        loop {
            match self.rest().first() {
                None => return Err(E::MissingBracket),
                Some(b']') if !first => break,
                Some(_) => {}
            }
            first = false;
            if let Some(named) = self.posix_class()? {
                set.union(&named);
            } else if let Some(named) = self.named_class()? {
                set.union(&named);
            } else {
                let (low, high) = self.class_range()?;
                let range = ByteSet::of(&[(low, high)]);
                set.union(&if self.flags.fold { range.folded() } else { range });
            }
        }
        self.at += 1;
        self.push(Piece::class(&if negated { set.negated() } else { set }));
        Ok(())
    }

    /// `[:alpha:]` within brackets; without a closing `:]` it is nothing special.
    fn posix_class(&mut self) -> Result<Option<ByteSet>, E> {
        let Some(inside) = self.rest().strip_prefix(b"[:") else { return Ok(None) };
        let Some(length) = inside.windows(2).position(|w| w == b":]") else { return Ok(None) };
        let set = groups::posix(inside.get(..length).unwrap_or_default(), self.flags.fold);
        let began = self.at;
        self.at += length + 4;
        set.map(Some).ok_or_else(|| E::ClassRange(self.since(began)))
    }

    fn class_range(&mut self) -> Result<(u8, u8), E> {
        let began = self.at;
        let low = self.class_byte()?;
        let is_range = matches!(self.rest(), [b'-', next, ..] if *next != b']');
        if !is_range {
            return Ok((low, low));
        }
        self.at += 1;
        let high = self.class_byte()?;
        if high < low { Err(E::ClassRange(self.since(began))) } else { Ok((low, high)) }
    }

    fn class_byte(&mut self) -> Result<u8, E> {
        match self.rest().first() {
            None => Err(E::MissingBracket),
            Some(b'\\') => self.escaped_byte(),
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
        }
    }
}

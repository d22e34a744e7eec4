//! Expressions: the instructions a rule is made of.
//!
//! Values meet in registers. Registers are those of 16 bytes, numbered from 1; what is shorter lies at the
//! beginning of one.

use super::Family;
use super::attr::{Attr, Attrs, Writer};

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// A verdict is written to this register.
const VERDICT_REGISTER: u32 = 0;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The first.
    One,
    /// The second.
    Two,
    /// Four bytes within one of them, counted from the first: how a key of several parts is put together.
    Word(u8),
}

impl Register {
    /// `NFT_REG_*`: 1 to 4 are the registers of 16 bytes, from 8 on their words.
    fn number(self) -> u32 {
        match self {
            Register::One => 1,
            Register::Two => 2,
            Register::Word(word) => 8 + u32::from(word),
        }
    }

    fn from_number(number: u32) -> Option<Register> {
        match number {
            1 => Some(Register::One),
            2 => Some(Register::Two),
            8..=23 => u8::try_from(number - 8).ok().map(Register::Word),
            _ => None,
        }
    }
}

/// An enum of the kernel's numbers.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            fn number(self) -> u32 {
                match self {
                    $($name::$variant => $number,)*
                }
            }

            fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbers! {
    /// What is known about a packet beside its bytes.
    Meta {
        /// Its mark.
        Mark = 3,
        /// The interface it came in by.
        InterfaceIn = 6,
        /// The interface it goes out by.
        InterfaceOut = 7,
        /// User id of the process that sent it.
        Uid = 10,
        /// Group id of the process that sent it.
        Gid = 11,
        /// IPv4 or IPv6, as [`Family::number`].
        Family = 15,
        /// Its protocol: 6 or 17.
        Protocol = 16,
    }
}

numbers! {
    /// What is known about a packet's connection.
    Ct {
        /// A set of bits.
        State = 0,
        /// A set of bits: `IPS_*`.
        Status = 2,
        /// Its mark.
        Mark = 3,
        /// The zone it is looked up in; can only be set before it is looked up.
        Zone = 17,
    }
}

numbers! {
    /// How two values are compared.
    Compare {
        /// Equal.
        Equal = 0,
        /// Not equal.
        NotEqual = 1,
    }
}

numbers! {
    /// Where in a packet bytes are counted from.
    Base {
        /// The IP header.
        Network = 1,
        /// The TCP or UDP header.
        Transport = 2,
    }
}

numbers! {
    /// Which address is rewritten.
    Nat {
        /// The source's.
        Source = 0,
        /// The destination's.
        Destination = 1,
    }
}

numbers! {
    /// What the routing tables are asked.
    FibResult {
        /// The kind of an address: local (2), broadcast ...
        AddressType = 3,
    }
}

numbers! {
    /// What is asked of the socket a packet belongs to.
    SocketKey {
        /// Is it transparent?
        Transparent = 0,
        /// Its mark.
        Mark = 1,
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nowhere.
    Drop,
    /// On its way.
    Accept,
    /// Back.
    Return,
    /// To another chain, and back.
    Jump(String),
    /// To another chain.
    Goto(String),
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads what is known about the packet.
    Meta(Meta, Register),
    /// Changes it.
    SetMeta(Meta, Register),
    /// Loads what is known about the connection.
    Ct(Ct, Register),
    /// Changes it.
    SetCt(Ct, Register),
    /// Loads bytes of the packet.
    Payload {
        /// To.
        to: Register,
        /// Counted from.
        base: Base,
        /// The first byte.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// `(value & mask) ^ xor`, in place.
    Bitwise {
        /// Of.
        register: Register,
        /// Kept bits.
        mask: Vec<u8>,
        /// Then flipped.
        xor: Vec<u8>,
    },
    /// Ends the rule unless the comparison holds.
    Compare(Register, Compare, Vec<u8>),
    /// Loads a value.
    Immediate(Register, Vec<u8>),
    /// Ends the rule.
    Verdict(Verdict),
    /// Looks a key up in a set; ends the rule if it is not there.
    Lookup {
        /// The set.
        set: String,
        /// The key.
        key: Register,
        /// Where a map's value goes.
        to: Option<LookupTo>,
    },
    /// Loads a random number.
    Random {
        /// To.
        to: Register,
        /// Below this.
        modulus: u32,
    },
    /// Counts packets.
    Counter,
    /// Rewrites the destination to this machine.
    Redirect {
        /// The port, in a register.
        port: Register,
    },
    /// Rewrites an address.
    Nat {
        /// Which.
        which: Nat,
        /// IPv4 or IPv6.
        family: Family,
        /// The address, in a register.
        address: Register,
        /// The port, in a register.
        port: Option<Register>,
    },
    /// Rewrites the source to that of the interface the packet leaves by.
    Masquerade,
    /// Refuses the packet: its sender hears that nobody listens on the port.
    Reject,
    /// Gives the packet to a transparent socket; ends the rule if there is none.
    Tproxy {
        /// IPv4 or IPv6.
        family: Family,
        /// The port, in a register.
        port: Register,
    },
    /// Asks the routing tables about the destination's address.
    Fib(FibResult, Register),
    /// Asks about the socket the packet belongs to; ends the rule if there is none.
    Socket(SocketKey, Register),
    /// One that we do not send.
    Unknown(String),
}

/// Where what a map says goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTo {
    /// To a register.
    Register(Register),
    /// It is a verdict, and takes effect.
    Verdict,
}

/// `NFTA_FIB_F_DADDR`.
const FIB_DESTINATION: u32 = 2;
/// `NFT_REJECT_ICMPX_UNREACH`: by ICMP of the packet's own family.
const REJECT_ICMPX: u32 = 2;
/// `NFT_REJECT_ICMPX_PORT_UNREACH`.
const REJECT_PORT: u8 = 1;
/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;

impl Expr {
    /// The kernel's name for it.
    pub fn name(&self) -> &str {
        match self {
            Expr::Meta(..) | Expr::SetMeta(..) => "meta",
            Expr::Ct(..) | Expr::SetCt(..) => "ct",
            Expr::Payload { .. } => "payload",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Compare(..) => "cmp",
            Expr::Immediate(..) | Expr::Verdict(_) => "immediate",
            Expr::Lookup { .. } => "lookup",
            Expr::Random { .. } => "numgen",
            Expr::Counter => "counter",
            Expr::Redirect { .. } => "redir",
            Expr::Nat { .. } => "nat",
            Expr::Masquerade => "masq",
            Expr::Reject => "reject",
            Expr::Tproxy { .. } => "tproxy",
            Expr::Fib(..) => "fib",
            Expr::Socket(..) => "socket",
            Expr::Unknown(name) => name,
        }
    }

    /// The kernel module that has it, if that is not nf_tables itself.
    pub(crate) fn module(&self) -> Option<&'static str> {
        match self {
            Expr::Ct(..) | Expr::SetCt(..) => Some("nft_ct"),
            Expr::Random { .. } => Some("nft_numgen"),
            Expr::Redirect { .. } => Some("nft_redir"),
            Expr::Nat { .. } => Some("nft_nat"),
            Expr::Masquerade => Some("nft_masq"),
            Expr::Reject => Some("nft_reject_inet"),
            Expr::Tproxy { .. } => Some("nft_tproxy"),
            Expr::Fib(..) => Some("nft_fib_inet"),
            Expr::Socket(..) => Some("nft_socket"),
            _ => None,
        }
    }

    /// Writes it: name and data.
    pub fn write(&self, w: &mut Writer) {
        w.text(EXPR_NAME, self.name());
        w.nest(EXPR_DATA, |w| self.write_data(w));
    }

    fn write_data(&self, w: &mut Writer) {
        match self {
            Expr::Meta(key, to) => {
                w.u32(1, to.number());
                w.u32(2, key.number());
            }
            Expr::SetMeta(key, from) => {
                w.u32(2, key.number());
                w.u32(3, from.number());
            }
            Expr::Ct(key, to) => {
                w.u32(1, to.number());
                w.u32(2, key.number());
            }
            Expr::SetCt(key, from) => {
                w.u32(2, key.number());
                w.u32(4, from.number());
            }
            Expr::Payload { to, base, offset, length } => {
                w.u32(1, to.number());
                w.u32(2, base.number());
                w.u32(3, *offset);
                w.u32(4, *length);
            }
            Expr::Bitwise { register, mask, xor } => {
                w.u32(1, register.number());
                w.u32(2, register.number());
                w.u32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                w.nest(4, |w| w.put(DATA_VALUE, mask));
                w.nest(5, |w| w.put(DATA_VALUE, xor));
            }
            Expr::Compare(register, compare, value) => {
                w.u32(1, register.number());
                w.u32(2, compare.number());
                w.nest(3, |w| w.put(DATA_VALUE, value));
            }
            Expr::Immediate(to, value) => {
                w.u32(1, to.number());
                w.nest(2, |w| w.put(DATA_VALUE, value));
            }
            Expr::Verdict(verdict) => {
                w.u32(1, VERDICT_REGISTER);
                w.nest(2, |w| w.nest(DATA_VERDICT, |w| verdict.write(w)));
            }
            Expr::Lookup { set, key, to } => {
                w.text(1, set);
                w.u32(2, key.number());
                match to {
                    Some(LookupTo::Register(register)) => w.u32(3, register.number()),
                    Some(LookupTo::Verdict) => w.u32(3, VERDICT_REGISTER),
                    None => {}
                }
            }
            Expr::Random { to, modulus } => {
                w.u32(1, to.number());
                w.u32(2, *modulus);
                w.u32(3, RANDOM);
                w.u32(4, 0);
            }
            Expr::Redirect { port } => {
                w.u32(1, port.number());
            }
            Expr::Nat { which, family, address, port } => {
                w.u32(1, which.number());
                w.u32(2, u32::from(family.number()));
                w.u32(3, address.number());
                if let Some(port) = port {
                    w.u32(5, port.number());
                }
            }
            Expr::Tproxy { family, port } => {
                w.u32(1, u32::from(family.number()));
                w.u32(3, port.number());
            }
            Expr::Reject => {
                w.u32(1, REJECT_ICMPX);
                w.put(2, &[REJECT_PORT]);
            }
            Expr::Fib(result, to) => {
                w.u32(1, to.number());
                w.u32(2, result.number());
                w.u32(3, FIB_DESTINATION);
            }
            Expr::Socket(key, to) => {
                w.u32(1, key.number());
                w.u32(2, to.number());
            }
            Expr::Counter | Expr::Masquerade | Expr::Unknown(_) => {}
        }
    }

    /// Reads one. What we would not send is [`Expr::Unknown`].
    pub fn read(attrs: Attrs<'_>) -> Expr {
        let name = attrs.text(EXPR_NAME).unwrap_or_default();
        let data = attrs.find(EXPR_DATA).map_or(Attrs(&[]), |data| data.inside());
        Expr::read_data(name, data).unwrap_or_else(|| Expr::Unknown(name.to_owned()))
    }

    fn read_data(name: &str, data: Attrs<'_>) -> Option<Expr> {
        let register = |kind| Register::from_number(data.u32(kind)?);
        let family = |kind| Family::from_number(u8::try_from(data.u32(kind)?).ok()?);
        Some(match name {
            "meta" => match data.find(3) {
                Some(_) => Expr::SetMeta(Meta::from_number(data.u32(2)?)?, register(3)?),
                None => Expr::Meta(Meta::from_number(data.u32(2)?)?, register(1)?),
            },
            "ct" => match data.find(4) {
                Some(_) => Expr::SetCt(Ct::from_number(data.u32(2)?)?, register(4)?),
                None => Expr::Ct(Ct::from_number(data.u32(2)?)?, register(1)?),
            },
            "payload" => Expr::Payload {
                to: register(1)?,
                base: Base::from_number(data.u32(2)?)?,
                offset: data.u32(3)?,
                length: data.u32(4)?,
            },
            "bitwise" if register(1)? == register(2)? && data.u32(6).unwrap_or(0) == 0 => Expr::Bitwise {
                register: register(1)?,
                mask: value(data.find(4)?)?,
                xor: value(data.find(5)?)?,
            },
            "cmp" => Expr::Compare(register(1)?, Compare::from_number(data.u32(2)?)?, value(data.find(3)?)?),
            "immediate" => match data.find(2)?.inside().find(DATA_VERDICT) {
                Some(verdict) => Expr::Verdict(Verdict::read(verdict.inside())?),
                None => Expr::Immediate(register(1)?, value(data.find(2)?)?),
            },
            "lookup" if data.u32(5).unwrap_or(0) == 0 => Expr::Lookup {
                set: data.text(1)?.to_owned(),
                key: register(2)?,
                to: match data.u32(3) {
                    None => None,
                    Some(VERDICT_REGISTER) => Some(LookupTo::Verdict),
                    Some(number) => Some(LookupTo::Register(Register::from_number(number)?)),
                },
            },
            "numgen" if data.u32(3)? == RANDOM && data.u32(4)? == 0 => {
                Expr::Random { to: register(1)?, modulus: data.u32(2)? }
            }
            "counter" => Expr::Counter,
            "redir" => Expr::Redirect { port: register(1)? },
            "nat" => Expr::Nat {
                which: Nat::from_number(data.u32(1)?)?,
                family: family(2)?,
                address: register(3)?,
                port: data.find(5).and_then(|port| Register::from_number(port.u32()?)),
            },
            "masq" => Expr::Masquerade,
            "reject" if data.u32(1)? == REJECT_ICMPX && data.find(2)?.value == [REJECT_PORT] => Expr::Reject,
            "tproxy" if data.find(2).is_none() => Expr::Tproxy { family: family(1)?, port: register(3)? },
            "fib" if data.u32(3)? == FIB_DESTINATION => {
                Expr::Fib(FibResult::from_number(data.u32(2)?)?, register(1)?)
            }
            "socket" => Expr::Socket(SocketKey::from_number(data.u32(1)?)?, register(2)?),
            _ => return None,
        })
    }
}

impl Verdict {
    /// `NF_*` and `NFT_*`; the latter are negative.
    fn code(&self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Goto(_) => -4,
            Verdict::Return => -5,
        }
    }

    /// Writes it: code and chain.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.put(VERDICT_CODE, &self.code().to_be_bytes());
        if let Verdict::Jump(chain) | Verdict::Goto(chain) = self {
            w.text(VERDICT_CHAIN, chain);
        }
    }

    /// Reads one.
    pub(crate) fn read(attrs: Attrs<'_>) -> Option<Verdict> {
        let chain = || Some(attrs.text(VERDICT_CHAIN)?.to_owned());
        match i32::from_be_bytes(attrs.find(VERDICT_CODE)?.value.try_into().ok()?) {
            0 => Some(Verdict::Drop),
            1 => Some(Verdict::Accept),
            -3 => Some(Verdict::Jump(chain()?)),
            -4 => Some(Verdict::Goto(chain()?)),
            -5 => Some(Verdict::Return),
            _ => None,
        }
    }
}

fn value(data: Attr<'_>) -> Option<Vec<u8>> {
    Some(data.inside().find(DATA_VALUE)?.value.to_vec())
}

//! Options as Istio's init program takes them: lists with commas, `*` for everything.
//!
//! Unlike there, what is wrong in a list is an error and not passed over.

use std::fmt;
use std::str::FromStr;

use crate::config::{Groups, Interface, Ports, Ranges};

/// Stands for everything.
const ALL: &str = "*";
/// Longest list anybody writes; more is a mistake.
const LIST_MAX: usize = 4096;

/// A value that is not what it should be. The user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Malformed {
    found: String,
    allowed: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {:?}, allowed: {}", self.found, self.allowed)
    }
}

/// The items of a list. Empty ones are passed over, so that a comma too many does no harm.
fn items(text: &str) -> Result<impl Iterator<Item = &str>, Malformed> {
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    if items().count() > LIST_MAX {
        return Err(Malformed { found: format!("{} items", items().count()), allowed: "at most 4096 items" });
    }
    Ok(items())
}

fn list<T>(
    text: &str,
    allowed: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Malformed> {
    let parse = |item: &str| parse(item).ok_or_else(|| Malformed { found: item.to_owned(), allowed });
    items(text)?.map(parse).collect()
}

/// Ports: `80,443`.
pub fn ports(text: &str) -> Result<Vec<u16>, Malformed> {
    let parse = |item: &str| item.parse().ok().filter(|port| *port != 0);
    list(text, "ports from 1 to 65535, separated by commas", parse)
}

/// Ranges of addresses: `10.0.0.0/8,fd00::/8`; an address alone is a range of one.
pub fn ranges(text: &str) -> Result<Vec<ipnet::IpNet>, Malformed> {
    let parse = |item: &str| {
        let range = ipnet::IpNet::from_str(item).ok();
        range.or_else(|| std::net::IpAddr::from_str(item).ok().map(ipnet::IpNet::from)).map(|r| r.trunc())
    };
    list(text, "ranges of addresses such as 10.0.0.0/8 or fd00::/8, separated by commas", parse)
}

/// Interfaces: `eth1,net+`.
pub fn interfaces(text: &str) -> Result<Vec<Interface>, Malformed> {
    let allowed =
        "names of interfaces (1 to 15 characters, `+` at the end for all that begin so), separated by commas";
    list(text, allowed, |item| item.parse().ok())
}

/// Marks: `1337,0x539`.
pub fn marks(text: &str) -> Result<Vec<u32>, Malformed> {
    list(text, "packet marks such as 1337 or 0x539, separated by commas", mark)
}

/// A mark.
fn mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Users or groups, by number or by the name that `known` knows.
pub fn ids(text: &str, known: impl Fn(&str) -> Option<u32>) -> Result<Vec<u32>, Malformed> {
    let parse = |item: &str| item.parse().ok().or_else(|| known(item));
    list(text, "numbers, or names that this system knows, separated by commas", parse)
}

/// Whose traffic is captured: everybody's but `exclude`'s if `include` is `*`, else only `include`'s.
pub fn groups(
    include: &str,
    exclude: &str,
    known: impl Fn(&str) -> Option<u32>,
) -> Result<Groups, Malformed> {
    match (include, exclude) {
        (ALL, exclude) => Ok(Groups::Except(ids(exclude, known)?)),
        (include, "") => Ok(Groups::Only(ids(include, known)?)),
        (include, _) => Err(Malformed {
            found: format!("{include} beside groups that are left out"),
            allowed: "groups to capture, or groups to leave out, not both",
        }),
    }
}

/// The id of a name in a file of the form of `/etc/passwd` or `/etc/group`: `name:x:id:...`.
pub fn named_id(file: &str, name: &str) -> Option<u32> {
    let mut entries = file.lines().map(|line| line.split(':'));
    let mut entry = entries.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    entry.nth(1)?.parse().ok()
}

impl FromStr for Ports {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text.trim() {
            ALL => Ok(Ports::All),
            text => Ok(Ports::Only(ports(text)?)),
        }
    }
}

impl FromStr for Ranges {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text.trim() {
            ALL => Ok(Ranges::All),
            text => Ok(Ranges::Only(ranges(text)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_istio_writes_them() {
        assert_eq!("*".parse(), Ok(Ports::All));
        assert_eq!("".parse(), Ok(Ports::Only(vec![])));
        assert_eq!("6000, 7000,".parse(), Ok(Ports::Only(vec![6000, 7000])));
        assert_eq!("*".parse(), Ok(Ranges::All));
        let range = |text: &str| text.parse().unwrap();
        assert_eq!(
            "10.1.2.3/8,fd00::/8,1.2.3.4".parse(),
            Ok(Ranges::Only(vec![range("10.0.0.0/8"), range("fd00::/8"), range("1.2.3.4/32")]))
        );
        assert_eq!(marks("1337,0x10").unwrap(), [1337, 16]);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let said = |error: Malformed| error.to_string();
        assert_eq!(
            said(ports("80,http").unwrap_err()),
            r#"found "http", allowed: ports from 1 to 65535, separated by commas"#
        );
        for bad in ["0", "65536", "-1", "80-90"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert!(ranges("10.0.0.0/33").is_err());
        assert!(interfaces("eth0/1").is_err());
        assert!(marks("0xg").is_err());
        assert!(ports(&"1,".repeat(LIST_MAX + 1)).is_err());
    }

    #[test]
    fn names_are_looked_up_where_the_system_keeps_them() {
        let file = "root:x:0:\njava:x:2000:a,b\nbroken\n";
        let known = |name: &str| named_id(file, name);
        assert_eq!(ids("java,202", known).unwrap(), [2000, 202]);
        assert!(ids("ftp", known).is_err());
        assert_eq!(groups("*", "java", known).unwrap(), Groups::Except(vec![2000]));
        assert_eq!(groups("java", "", known).unwrap(), Groups::Only(vec![2000]));
        assert!(groups("java", "root", known).is_err());
    }
}

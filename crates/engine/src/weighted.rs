//! A choice among names by weight.

use crate::Refusal;

/// Names with relative weights.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// Upper end of each name's share (exclusive), ascending.
    ends: Vec<(u32, Box<str>)>,
    total: u32,
}

impl Weighted {
    /// Weights that add up to nothing, or to more than a `u32`, are refused, as by Envoy.
    pub(crate) fn compile(shares: impl IntoIterator<Item = (String, u32)>) -> Result<Weighted, Refusal> {
        let mut total = 0_u32;
        let mut ends = Vec::new();
        for (name, weight) in shares {
            total = total
                .checked_add(weight)
                .ok_or_else(|| Refusal::invalid("weights add up to more than 2^32-1"))?;
            ends.push((total, name.into_boxed_str()));
        }
        if total == 0 {
            return Err(Refusal::invalid("weights add up to 0"));
        }
        Ok(Weighted { ends, total })
    }

    /// The name that `random` falls to: Envoy takes it modulo the sum of weights.
    pub fn pick(&self, random: u64) -> &str {
        self.name(self.place(random)).unwrap_or_default()
    }

    /// The place of that name.
    pub(crate) fn place(&self, random: u64) -> usize {
        let value = random % u64::from(self.total);
        self.ends.partition_point(|(end, _)| u64::from(*end) <= value)
    }

    /// The name in this place.
    pub(crate) fn name(&self, place: usize) -> Option<&str> {
        self.ends.get(place).map(|(_, name)| &**name)
    }

    /// Names with their weights, in order.
    pub fn shares(&self) -> impl Iterator<Item = (&str, u32)> {
        let mut begin = 0;
        self.ends.iter().map(move |(end, name)| {
            let weight = end - begin;
            begin = *end;
            (&**name, weight)
        })
    }
}

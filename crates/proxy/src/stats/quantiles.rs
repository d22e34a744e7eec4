//! What a histogram has seen, as Envoy tells it: quantiles, and counts up to some bounds.
//!
//! Envoy's histograms are log-linear: a value is known to two significant digits. Quantiles are those of its library (`circllhist`): the values of a
//! bin are taken to lie evenly within it.

/// What a histogram has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The least value of each bin, ascending, and how many values were in it.
    bins: Vec<(u64, u64)>,
    sum: u64,
}

/// The quantiles Envoy tells.
pub(crate) const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// Upper bounds where nothing else is configured.
pub(crate) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

impl Seen {
    /// From the bins of one thread: ascending.
    pub fn new(bins: Vec<(u64, u64)>, sum: u64) -> Seen {
        Seen { bins, sum }
    }

    /// Adds what another thread has seen.
    pub fn add(&mut self, other: &Seen) {
        self.sum = self.sum.wrapping_add(other.sum);
        for (least, count) in &other.bins {
            match self.bins.binary_search_by_key(least, |(least, _)| *least) {
                Ok(at) => {
                    if let Some((_, sum)) = self.bins.get_mut(at) {
                        *sum += count;
                    }
                }
                Err(at) => self.bins.insert(at, (*least, *count)),
            }
        }
    }

    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|(_, count)| count).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Bins: least value, width, count.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        #[allow(clippy::cast_precision_loss, reason = "two digits of them are exact")]
        self.bins.iter().map(|(least, count)| (*least as f64, width(*least), *count))
    }

    /// The quantiles of [`QUANTILES`]; nothing if nothing was seen.
    pub fn quantiles(&self) -> Option<[f64; QUANTILES.len()]> {
        let total = self.count();
        (total > 0).then(|| QUANTILES.map(|quantile| self.quantile(quantile, total)))
    }

    #[allow(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not happen")]
    fn quantile(&self, quantile: f64, total: u64) -> f64 {
        let rank = (quantile * total as f64).ceil().max(1.0);
        let mut before = 0.0;
        for (least, width, count) in self.bins() {
            let count = count as f64;
            if before + count >= rank {
                return least + width * (rank - before) / (count + 1.0);
            }
            before += count;
        }
        // Rounding has led past the last value.
        self.bins().last().map_or(0.0, |(least, width, _)| least + width)
    }

    /// How many values are at most each bound.
    pub fn cumulative(&self, bounds: &[f64]) -> Vec<u64> {
        let up_to =
            |bound: &f64| self.bins().take_while(|(least, ..)| least <= bound).map(|(.., count)| count).sum();
        bounds.iter().map(up_to).collect()
    }
}

/// Of the bin whose least value this is.
fn width(least: u64) -> f64 {
    match least.checked_ilog10() {
        None => 0.0,
        Some(power) => 10_f64.powi(i32::try_from(power).unwrap_or_default() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bins: &[(u64, u64)]) -> Seen {
        Seen::new(bins.to_vec(), 0)
    }

    fn shown(bins: &[(u64, u64)]) -> Vec<String> {
        seen(bins).quantiles().unwrap().iter().map(|value| format!("{value:.4}")).collect()
    }

    /// Numbers that a stock Envoy 1.40 has told of such values.
    #[test]
    fn quantiles_are_envoys() {
        assert_eq!(shown(&[(65, 1)]), ["65.5000"; 10]);
        let three = [
            "1.0250", "1.0250", "1.0500", "1.0750", "1.0750", "1.0750", "1.0750", "1.0750", "1.0750",
            "1.0750",
        ];
        assert_eq!(shown(&[(1, 3)]), three);
        let four = [
            "1.0200", "1.0200", "1.0400", "1.0600", "1.0800", "1.0800", "1.0800", "1.0800", "1.0800",
            "1.0800",
        ];
        assert_eq!(shown(&[(1, 4)]), four);
        let mixed = [
            "0.0000", "0.0000", "0.0000", "5.0500", "5.0500", "5.0500", "5.0500", "5.0500", "5.0500",
            "5.0500",
        ];
        assert_eq!(shown(&[(0, 2), (5, 1)]), mixed);
        assert_eq!(seen(&[]).quantiles(), None);
    }

    #[test]
    fn bounds_count_what_is_below() {
        assert_eq!(seen(&[(0, 2), (5, 1), (120, 1)]).cumulative(&[0.5, 5.0, 100.0, 250.0]), [2, 3, 3, 4]);
        let bins: Vec<_> = seen(&[(5, 1), (65, 2), (120, 3)]).bins().collect();
        assert_eq!(bins, [(5.0, 0.1, 1), (65.0, 1.0, 2), (120.0, 10.0, 3)]);
    }

    #[test]
    fn threads_are_added_up() {
        let mut all = Seen::new(vec![(1, 1), (5, 2)], 11);
        all.add(&Seen::new(vec![(0, 1), (5, 1)], 5));
        assert_eq!(all, Seen::new(vec![(0, 1), (1, 1), (5, 3)], 16));
        assert_eq!(all.count(), 5);
    }
}

//! What counts as "as the YAML says", for shares that are drawn by chance.

use std::fmt;

/// How many of `total` answers should be of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// Every one.
    All,
    /// Not one.
    None,
    /// This share (0 to 1), within three standard deviations of a draw by chance.
    About(f64),
}

/// Outside of this many standard deviations is wrong. By chance alone that happens once in 370 checks.
const DEVIATIONS: f64 = 3.0;

impl Share {
    /// The least and the most that will do.
    pub fn bounds(self, total: usize) -> (usize, usize) {
        match self {
            Share::All => (total, total),
            Share::None => (0, 0),
            Share::About(share) => {
                let n = total as f64;
                let (mean, deviation) = (n * share, (n * share * (1.0 - share)).sqrt());
                let least = (mean - DEVIATIONS * deviation).ceil().max(0.0);
                let most = (mean + DEVIATIONS * deviation).floor().min(n);
                (least as usize, most as usize)
            }
        }
    }

    /// True if `count` of `total` will do.
    pub fn holds(self, count: usize, total: usize) -> bool {
        let (least, most) = self.bounds(total);
        total > 0 && (least..=most).contains(&count)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::All => f.write_str("all"),
            Share::None => f.write_str("none"),
            Share::About(share) => write!(f, "{:.1} %", share * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_deviations_and_no_more() {
        let share = Share::About(0.1);
        // n = 2,000, p = 0.1: mean 200, deviation 13.4.
        assert_eq!(share.bounds(2_000), (160, 240));
        assert!(share.holds(160, 2_000) && !share.holds(159, 2_000));
        assert!(share.holds(240, 2_000) && !share.holds(241, 2_000));
        assert!(Share::All.holds(5, 5) && !Share::All.holds(4, 5));
        assert!(Share::None.holds(0, 5) && !Share::None.holds(1, 5));
        assert!(!Share::All.holds(0, 0), "no answers show nothing");
    }
}
